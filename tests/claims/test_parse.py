"""Claim files: what a row becomes, and that a malformed file is refused with its line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantbench.claims import parse
from quantbench.claims.claim import Xfail
from quantbench.errors import BadInput
from quantbench.quantization.scheme import Override

GOOD = """\
paper = "p"
title = "A Paper"
[defaults]
data = "cifar10/test"
[models]
r20 = { name = "cifar10/resnet20", fp = 91.5 }
r56 = { name = "cifar10/resnet56" }
[schemes.default]
weights = { range = "mse" }
[sources]
t1 = { table = "Table 1", reported = "authors", status = "read" }
other = { reported = "third-party", status = "read" }
[[claim]]
name = "a"
source = "t1"
method = "nearest"
fields = { iterations = 3, widths = [1, 2] }
cells.w4 = { r20 = [90.5, 0.1] }
[[claim]]
name = "b"
kind = "beats"
source = "t1"
method = "adaround"
rival = { method = "nearest" }
cells.w3 = ["r20", "r56"]
[[claim]]
name = "c"
source = "other"
method = "nearest"
cells.w2 = { r20 = { value = 10, to = 11, note = "two runs" }, r56 = 12 }
"""


def test_a_row_becomes_one_claim_for_each_scheme_and_model() -> None:
    a, b20, b56, c20, c56 = parse.parse(GOOD, "p.toml")
    assert (a.id, a.value, a.sd, a.drop, a.where) == (
        "p/cifar10/r20/w4/a",
        90.5,
        0.1,
        1.0,
        "p.toml:13",
    )
    assert a.fields == (("iterations", 3), ("widths", (1, 2)))
    assert (b20.model, b56.model, b20.value, b20.gates) == (
        "cifar10/resnet20",
        "cifar10/resnet56",
        None,
        True,
    )
    assert (c20.asks, c20.note, c20.gates) == ("published 10 to 11 (81.50)", "two runs", False)
    assert (c56.kind, c56.drop) == ("accuracy", None)
    assert hash(a) != hash(b20)


BAD = [
    ('paper = "p"', "paper = p", 1, "Invalid value"),
    ("[defaults]", "[defaults", 3, "at line 3"),
    (
        'data = "cifar10/test"', 'daat = "cifar10/test"',
        4, "unknown key 'daat' in [defaults]; did you mean",
    ),
    ("fp = 91.5 }", "fp = nan }", 6, "fp = nan: must be a finite number"),
    ("fp = 91.5 }", "fp = 5e777777 }", 6, "fp = inf: must be a finite number"),
    ("fp = 91.5 }", f"fp = 1e{10**20} }}", 6, "fp = inf: must be a finite number"),
    ('r56 = { name = "cifar10/resnet56" }', "r56 = 3", 7, "models.r56 must be a table"),
    ('weights = { range = "mse" }', 'weigths = { range = "mse" }', 9, "did you mean weights"),
    ('status = "read" }\nother', 'status = "seen" }\nother', 11, "status = 'seen'"),
    ('name = "a"\n', "", 13, "[claim] has no name"),
    (
        'source = "t1"\nmethod = "nearest"', 'source = "t2"\nmethod = "nearest"',
        18, "'t2' is not in [sources]",
    ),
    ("widths = [1, 2]", "widths = { a = 1 }", 18, "fields.widths is a table"),
    ("cells.w4 =", "cells.w9 =", 18, "9 bits"),
    ("cells.w4 =", "cells.w4-chanel =", 18, "'chanel' is not in [schemes]"),
    ("cells.w4 =", "cells.w4a8 =", 18, "has no acts"),
    (
        'weights = { range = "mse" }', 'weights = {}\noverrides = { fc = "4" }',
        19, "overrides of 'fc': '4'",
    ),
    ("cells.w4 =", "cells.four =", 18, "name it fp, w4"),
    (
        "{ r20 = [90.5, 0.1] }", "{ r2 = [90.5, 0.1] }",
        18, "'r2' is not in [models]; did you mean r20",
    ),
    ("{ r20 = [90.5, 0.1] }", "{ r20 = [90.5, -0.1] }", 18, "is no published number"),
    ("{ r20 = [90.5, 0.1] }", '{ r20 = "90.5" }', 18, "is no published number"),
    ("{ r20 = [90.5, 0.1] }", "{ r20 = 905 }", 18, "905 is no top-1"),
    ("{ r20 = [90.5, 0.1] }", "{ }", 18, "neither a table of numbers"),
    ('rival = { method = "nearest" }\n', "", 24, "a beats claim needs a rival"),
    (
        'rival = { method = "nearest" }', 'rival = { metod = "nearest" }',
        24, "unknown key 'metod' in rival",
    ),
    ('["r20", "r56"]', "{ r20 = 3.0 }", 25, "a beats claim has no number"),
    ('kind = "beats"', 'kind = "beat"', 21, "kind = 'beat'; did you mean beats"),
    ('source = "other"', 'source = "other"\ngates = true', 31, "may not gate"),
    ("cells.w4 = { r20 = [90.5, 0.1] }", "cells.w4 = { r20 = 0.9 }", 18, "accuracy of chance"),
    ('source = "other"', 'source = "other"\ntol = 1.0', 31, "a tolerance without its reason"),
    (
        'rival = { method = "nearest" }', 'rival = { method = "nearest" }\nxfail = "old"',
        25, "xfail = 'old': must be a table",
    ),
    (
        'rival = { method = "nearest" }',
        'rival = { method = "nearest" }\nxfail = { number = 1, date = "2026-11-31", cause = "x" }',
        25, "date = '2026-11-31': must be a day such as",
    ),
    (
        'rival = { method = "nearest" }',
        'rival = { method = "nearest" }\nxfail = { number = -1.5, date = "2026-11-30" }',
        25, "xfail has no cause",
    ),
    ("r56 = { name", 'r56 = { checkpoint = "mine", name', 7, "checkpoint = 'mine'"),
    ("to = 11", "to = 9", 30, "a range ends above its start"),
    ("cells.w2", "cells.fp", 30, "an fp claim"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("number", "fp", "rounding"),
    [
        ("90.50", "91.5", 0.005 + 0.05),
        ("90.5", "91.5", 0.05 + 0.05),
        ("90", "91.50", 0.5 + 0.005),
        ("{ value = 90.50, to = 90.6 }", "91.500", 0.05 + 0.0005),
        ("[90.50, 0.123]", "91.5", 0.005 + 0.05),
        ("9_0.50e0", "91.5", 0.005 + 0.05),
        ("905.0e-1", "91.5", 0.005 + 0.05),
    ],
)
def test_a_published_number_is_as_exact_as_it_is_printed(
    number: str, fp: str, rounding: float
) -> None:
    text = GOOD.replace("[90.5, 0.1]", number).replace("fp = 91.5", f"fp = {fp}")
    claim = parse.parse(text, "p.toml")[0]
    assert claim.rounding == pytest.approx(rounding)
    assert {type(claim.value), type(claim.fp)} == {float}
    # without full precision there is only one number, and a limit of the project is exact
    alone = parse.parse(text.replace('name = "a"', 'name = "a"\nkind = "accuracy"'), "p.toml")[0]
    assert alone.rounding == pytest.approx(rounding - 0.5 * 10.0 ** -len(fp.partition(".")[2]))
    limit = parse.parse(text.replace('name = "a"', 'name = "a"\nkind = "max_drop"'), "p.toml")[0]
    assert limit.rounding == 0
    own = parse.parse(
        text.replace(
            't1 = { table = "Table 1", reported = "authors"',
            't1 = { table = "Table 1", reported = "project"',
        ),
        "p.toml",
    )[0]
    assert own.rounding == 0


def test_a_known_miss_is_read_with_number_date_and_cause() -> None:
    miss = (
        'xfail = { number = -1.5, date = "2026-11-29", cause = "the seeds are not the paper\'s" }'
    )
    _, b20, *_ = parse.parse(GOOD.replace('kind = "beats"', f'kind = "beats"\n{miss}'), "p.toml")
    assert b20.xfail == Xfail(-1.5, "2026-11-29", "the seeds are not the paper's")
    assert "known miss: -1.5 on 2026-11-29" in b20.describe()
    assert parse.parse(GOOD, "p.toml")[0].xfail is None


def test_whose_weights_a_model_has_is_its_own_unless_the_row_says_otherwise() -> None:
    theirs = GOOD.replace("r20 = { name", 'r20 = { checkpoint = "authors", name')
    assert parse.parse(GOOD, "p.toml")[0].checkpoint == "other"
    assert parse.parse(theirs, "p.toml")[0].checkpoint == "authors"
    row = theirs.replace('name = "a"', 'name = "a"\ncheckpoint = "quantized"')
    assert parse.parse(row, "p.toml")[0].checkpoint == "quantized"


def test_a_scheme_may_give_layers_bits_of_their_own() -> None:
    text = GOOD.replace(
        'weights = { range = "mse" }', 'weights = {}\noverrides = { "a.b" = 8, fc = [3, 6] }'
    )
    assert parse.parse(text, "p.toml")[0].scheme.overrides == (
        Override("a.b", 8),
        Override("fc", 3, 6),
    )


@pytest.mark.parametrize(
    ("old", "new", "line", "what"), BAD, ids=[f"{b[2]}-{b[3][:30]}" for b in BAD]
)
def test_a_malformed_file_is_refused_with_its_line(
    old: str, new: str, line: int, what: str
) -> None:
    assert GOOD.count(old) >= 1
    # in full precision that row is a sound claim: make it contradict itself
    if what == "an fp claim":
        new = 'kind = "value"\n' + new
        line += 1
        what = "a value claim needs a quantized cell"
    with pytest.raises(BadInput) as caught:
        parse.parse(GOOD.replace(old, new, 1), "p.toml")
    assert str(caught.value).startswith(f"p.toml:{line}: "), caught.value
    assert what in str(caught.value)


TOKENS = st.sampled_from(
    ['"x"', "3", "-1.5", "nan", "true", "[]", "{}", "[1, 2]", "{ a = 1 }", '""', "1979-05-27", "="]
)


@given(st.integers(0, GOOD.count("\n") - 1), TOKENS, st.booleans())
def test_whatever_a_line_becomes_the_error_is_for_people(at: int, token: str, cut: bool) -> None:
    lines = GOOD.splitlines()
    lines[at] = "" if cut else f"{lines[at].partition('=')[0]} = {token}"
    try:
        said = [c.describe() for c in parse.parse("\n".join(lines), "p.toml")]
    except BadInput as e:
        said = [str(e).removeprefix("p.toml:") if str(e).startswith("p.toml:") else ""]
    assert all(said)
