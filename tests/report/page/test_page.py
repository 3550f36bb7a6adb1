"""What the page says: every claim, in every section where a reader would look for it."""

import json
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from quantbench.evidence import estimates
from quantbench.evidence.result import Latency, Result
from quantbench.report.charts.fronts import COSTS
from quantbench.report.page import build, changed, figures, glance, papers, skipped
from quantbench.report.page.entries import boards, entries, named
from quantbench.runs.lab import Lab
from tests.report.reports import TABLE, every, result
from tests.report.test_tracking import CELL

VOID = {"meta", "link", "br", "input", "img", "hr"}


class Reader(HTMLParser):
    """Ids, links, and whether tags are closed in their order."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.open = Counter(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids.update([given["id"]] if "id" in given else [])
        self.links += [given[name] for name in ("href", "src") if name in given]
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag):
        if tag not in VOID and self.open.pop() != tag:
            raise AssertionError(f"</{tag}> closes another")


@pytest.fixture
def text(tmp_path):
    return build.page(every(), Lab(tmp_path), build.About("abc", "a machine"), [TABLE])


def test_the_page_stands_alone_and_its_links_resolve(text):
    page = Reader(text)
    assert page.open == []
    assert max(page.ids.values()) == 1
    outside = [link for link in page.links if not link.startswith(("#", "data:"))]
    assert outside == []
    assert {link[1:] for link in page.links if link[0] == "#"} <= set(page.ids)
    assert len(text) < 3_000_000


def test_every_judged_claim_has_a_section_with_its_numbers_and_command(text):
    start = text.index('<h4 id="paper--shapes--resnet8--w4--here-missed">')
    section = text[start : text.index("</section>", start)]
    for part in (
        "MISSED",
        "<dt>our drop</dt><dd>6.00 [",
        "<dt>asked</dt><dd>0.50</dd>",
        "at or below",
        "quantbench run -k paper/shapes/resnet8/w4/here-missed",
        "weights 4 bits",
        "toy.toml, line 1",
        "a first run",
        "Right in full precision only",
    ):
        assert part in section, part


def test_misses_stand_before_what_is_undecided_and_what_agrees(text):
    places = [text.index(f'<h4 id="paper--shapes--resnet8--w4--here-{n}">') for n in _ORDER]
    assert places == sorted(places)


_ORDER = ("missed", "order", "beats")


def test_what_is_skipped_names_reason_and_command(text):
    end = text[text.index('id="skipped"') :]
    assert "&lt;no&gt; data" in end
    assert "quantbench data fetch it" in end
    assert "paper/shapes/resnet8/w4/here-waits" in end


def test_a_report_of_nothing_is_a_page(tmp_path):
    empty = build.page([], Lab(tmp_path))
    assert Reader(empty).open == []
    assert "No claim was judged" in empty
    assert 'class="chart"' not in empty


def test_counts_are_by_paper_and_tier():
    tiles = {t.word: t.number for t in glance.tiles(every())}
    assert tiles["missed"] == 3  # one is refused, one stops short of what was published
    assert tiles["skipped"] == 1
    (line,) = glance.counts(every())
    assert (line.paper, line.tier, line.counts[0], line.counts[-1]) == ("paper", "embedded", 3, 1)
    assert sum(line.counts) == len(every())


def test_tables_have_the_rows_and_columns_of_the_paper():
    table, own = papers.paper_tables(every())
    assert (own.own, table.own) == (True, False)
    assert (table.title, table.columns) == ("p: t", ("c",))
    assert [row for row, _ in table.rows] == ["r"]
    (chart,) = table.forest
    lines = chart.spec["data"]["values"]
    assert len({line["label"] for line in lines}) == len(lines) > 1


def test_own_claims_stand_by_network():
    own = [
        replace(f, row=replace(f.row, claim=replace(f.claim, source=_project(f.claim.source))))
        for f in every()
    ]
    (table,) = papers.paper_tables(own)
    assert table.own
    assert table.columns == ("shapes/resnet8 on shapes/test",)
    assert "w4 missed" in [row for row, _ in table.rows]
    assert "w4 waits" not in [row for row, _ in table.rows]


def _project(source):
    return replace(source, reported="project")


def test_runs_that_claims_share_are_compared_once():
    some = entries(every())
    assert Counter(e.method for e in some)["nearest"] == 1
    assert len(named(some)) == len(some)
    (board,) = boards(some).values()
    assert len(board) == len(some)


def test_every_known_cost_has_its_front(tmp_path):
    some = entries(every())
    fronts, cost = figures.tradeoffs(some, figures.bits_by_name(Lab(tmp_path), some))
    assert [c.title.removeprefix("Accuracy against ").split()[0] for c in (*fronts, *cost)] == [
        "bits",
        "bytes",
        "milliseconds",
        "seconds",
        "MiB",
    ]
    for chart in (*fronts, *cost):
        values = chart.spec["data"]["values"]
        assert len(values) == len(some)
        assert any(v["front"] for v in values)


def test_only_calibration_images_make_a_line_of_them():
    chart = figures.by_images(entries(every()))
    assert [v["images"] for v in chart.spec["data"]["values"]] == [1, 2, 4, 8]
    assert figures.by_images(entries(every()[:5])) is None


def test_examples_that_changed_are_counted_and_placed():
    fp, now = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    found = changed.changed(Result.of(fp, now, "d"))
    assert (found.lost, found.won, found.n) == ((1,), (2,), 4)
    partly = Result.of(np.float32([1, 0.2]), np.float32([0.3, 0.4]), "d", metric="f1")
    assert changed.changed(partly).lost == (0,)
    gold = np.float32([1, 2])
    assert changed.changed(Result.of(gold, gold, "d", metric="spearman", gold=gold)) is None
    assert changed.listed(range(changed.LISTED + 2)).endswith("and 2 more")
    assert [changed.room(n) for n in (1, 100, 10**6)] == [changed.LISTED, 200, 20]


def test_pictures_are_of_what_this_project_drew(monkeypatch):
    asked = []
    monkeypatch.setattr(
        changed,
        "_pictures",
        lambda data, at: asked.append((data, list(at))) or dict.fromkeys(at, "x"),
    )
    pictures = changed.Pictures()
    assert pictures.of("cifar10/test", [1, 2]) == []
    assert pictures.of("shapes/test", range(100)) == list(range(changed.PICTURES))
    assert pictures.of("shapes/test", [3, 200]) == [3, 200]
    assert asked == [("shapes/test", list(range(changed.PICTURES))), ("shapes/test", [200])]
    assert json.dumps(pictures.known)


def test_pictures_cannot_end_their_script(tmp_path, monkeypatch):
    ends = "</script><script>alert(1)</script>"
    monkeypatch.setattr(changed, "_pictures", lambda _data, at: dict.fromkeys(at, ends))
    written = build.page(every(), Lab(tmp_path))
    assert ends not in written
    held = written.split('id="pictures">', 1)[1].split("</script>", 1)[0]
    assert {ends} == {x for known in json.loads(held).values() for x in known.values()}


def test_commands_are_grouped_by_what_they_bring():
    groups = skipped.skipped(every())
    assert [(g.reason, g.commands, len(g.claims)) for g in groups] == [
        ("<no> data", ("quantbench data fetch it",), 1)
    ]


def test_bits_of_a_missing_network_are_those_of_the_scheme():
    some = entries(every())
    fronts, _ = figures.tradeoffs(some, {})
    assert {v["x"] for v in fronts[0].spec["data"]["values"]} == {4.0}
    assert result(940).drop > 0


def test_a_page_of_all_that_can_be_run_here_is_below_three_megabytes(tmp_path):
    """Hundreds of claims, with every image another answer."""
    some = [f for f in every() if f.judged]
    many = [
        replace(f, row=replace(f.row, claim=replace(f.claim, id=f"{f.claim.id}-{i}")))
        for i in range(45)
        for f in some
    ]
    assert len(many) > 450
    assert len(build.page(many, Lab(tmp_path)).encode()) < 3_000_000


def test_bits_are_the_schemes_only_where_all_layers_have_them():
    some = [e for e in entries(every()) if e.method in ("nearest", "rounding", "adaround")]
    assert len(some) == 3
    edges = replace(some[0].scheme, first_last_bits=8)
    other = [
        replace(some[0], scheme=edges, short="e"),
        replace(some[0], scheme=replace(some[0].scheme, which="first"), short="f"),
        replace(some[0], method="allocate+nearest"),
        replace(some[0], method="brecq-mixed"),
    ]
    fronts, _ = figures.tradeoffs([*some, *other], {})
    assert fronts[0].title.endswith(COSTS["bits"])
    assert {v["method"] for v in fronts[0].spec["data"]["values"]} == {e.method for e in some}
    assert len(fronts[0].spec["data"]["values"]) == len(some)


def test_what_is_lost_has_the_paired_interval():
    some = entries(every())
    fronts, _ = figures.tradeoffs(some, {})
    drops = {e.call: estimates.drop(e.runs) for e in some}
    for point in fronts[0].spec["data"]["values"]:
        asked = drops[point["options"]]
        found = [point[k] for k in ("lost", "least", "most")]
        assert found == pytest.approx([asked.value, asked.low, asked.high], abs=1e-3)


def test_times_of_two_machines_are_not_on_one_axis():
    ms = [("m", 1.0), ("m", 2.0), ("other", 9.0)]
    some = [
        replace(e, runs={0: result(900, 1, latency=(Latency("native", 1, machine, (t,)),))})
        for e, (machine, t) in zip(entries(every()), ms, strict=False)
    ]
    made_on = {name: {0: m} for name, m in zip(named(some), ("x", "y", "y"), strict=True)}
    fronts, cost = figures.tradeoffs(some, {}, made_on)
    (timed,) = (c for c in fronts if "integers" in c.title)
    (slow, _) = cost
    assert [v["x"] for v in timed.spec["data"]["values"]] == [1.0, 2.0]
    assert len(slow.spec["data"]["values"]) == 2
    assert timed.caption.endswith("ran on m.")
    assert slow.caption.endswith("ran on y.")
    assert "ran on" not in fronts[0].caption


def test_runs_say_where_they_were_made(tmp_path):
    lab = Lab(tmp_path)
    lab.ledger.put(CELL, result(900), {"machine": "here", "commit": "c"})
    one = replace(entries(every())[0], cells={0: CELL, 1: replace(CELL, seed=1)})
    assert list(figures.machines_by_name(lab, [one]).values()) == [{0: "here"}]


def test_a_board_is_of_runs_on_the_same_examples():
    some = entries(every())
    (board,) = boards(some).values()
    other = result(930, 5)
    fp = other.fp_scores.copy()
    fp[:2] = False
    changes = [
        {"runs": {0: Result.of(fp, other.scores, "d")}},
        {"runs": {0: replace(other, metric="f1")}},
        {"runs": {0: replace(other, gold=other.fp)}},
        {"runs": {0: Result.of(other.fp_scores[:-1], other.scores[:-1], "d")}},
    ]
    odd = [replace(some[0], method=f"odd{i}", **c) for i, c in enumerate(changes)]
    assert boards([*odd, *some]) == {f"{some[0].place}, {some[0].short}": board}
    assert boards(odd) == {}


RANGES = ("minmax", "mse", "lp2.4", "output_mse")


def test_every_entry_has_a_name_however_alike():
    one = entries(every())[0]
    ranges = [replace(one.scheme, weights=replace(one.scheme.weights, range=r)) for r in RANGES]
    some = [replace(one, scheme=scheme) for scheme in ranges]
    assert list(named(some).values()) == some


def test_lines_of_images_are_told_apart_by_calibration():
    some = [e for e in entries(every()) if dict(e.fields).get("images")]
    others = [replace(e, calib="8 of other", runs={0: result(500)}) for e in some]
    others += [replace(e, scheme=replace(e.scheme, placement="shared")) for e in others]
    others += [replace(e, scheme=replace(e.scheme, which="first")) for e in others]
    rows = figures.by_images([*some, *others]).spec["data"]["values"]
    assert len(rows) == 5 * len(some)
    assert len({(row["pipeline"], row["images"]) for row in rows}) == len(rows)
