"""A report with something in every section, made of a few invented runs; needs no torch."""

from dataclasses import replace

import numpy as np

from quantbench.claims.claim import CalibrationSet, Rival
from quantbench.evidence.judge import judge
from quantbench.evidence.result import Latency, Result
from quantbench.evidence.verdict import Outcome, Verdict, skipped
from quantbench.latency.table import LayerTime, Table
from quantbench.report.bench import Row
from quantbench.report.page.found import Found
from tests.evidence.test_judge import BEATS, CLAIM, LIMIT
from tests.report.rows import CURVES, EXTRA

N = 1000

EVENT = {"value": 95.0, "date": "2026-01-02", "commit": "abc", "kind": "", "why": "a first run"}

TABLE = Table(
    "shapes/net",
    1,
    "a machine",
    (),
    {},
    {},
    {"w8a8": 1234},
    {
        "native w8a8": (
            LayerTime("conv", "conv", 0.5, 100_000_000, 1_000_000),
            LayerTime("fc", "linear", 0.1, 1_000_000, 900_000),
        )
    },
    300e9,
    10e9,
)


def result(right, seed=0, curves=None, **rest):
    """A run that has so many examples right, not always the same ones."""
    rng = np.random.default_rng(seed)
    fp = np.arange(N) < 960
    scores = np.zeros(N, bool)
    scores[rng.permutation(960)[: right - 10]] = True
    scores[960:970] = True
    times = {"quantize": 2.0 + seed}
    latency = (Latency("native", 1, "m", (1.0, 1.1), (2.0, 2.1)),)
    about = {"size_bytes": 1000 + right, "seconds": times, "latency": latency}
    extra = {"peak_megabytes": 300.0 + seed, **EXTRA}
    return Result.of(fp, scores, "d", curves=curves or {}, extra=extra, **{**about, **rest})


CURVES_OF_ALL = {
    **CURVES,
    "conv": (1.0, 0.5, 0.25, 0.2),
    "fc": (0.3, 0.0, 0.1, 0.1),
    "h/before/conv": (0.2, 0.6),
    "h/after/conv": (0.0, 0.2),
}


def claim(like, name, /, **fields):
    """A claim on shapes with an id of its own."""
    about = {"model": "shapes/resnet8", "data": "shapes/test", "published_on": "shapes/test"}
    made = replace(like, id=f"paper/shapes/resnet8/w4/{name}", paper="paper", **about)
    return replace(made, calib=CalibrationSet("shapes/calib", 64), **fields)


def every():
    """Claims of most kinds, with their verdicts."""
    first = result(940, curves=CURVES_OF_ALL)
    rivals = {0: result(700, 7)}
    limit = claim(LIMIT, "here-limit", method="nearest", value=3.0)
    missed = claim(LIMIT, "here-missed", method="rounding", value=0.5, gates=True)
    ahead = claim(BEATS, "here-beats", method="adaround", fields=(("iterations", 10),))
    order = claim(BEATS, "here-order", kind="order", method="brecq", gates=False)
    order = replace(order, rival=Rival("nearest", (), order.scheme))
    published = claim(CLAIM, "t1", method="qdrop")
    waits = claim(LIMIT, "here-waits")
    judged = [
        Row(c, judge(c, runs, others), {}, runs, 1.0, others)
        for c, runs, others in (
            (limit, {0: result(935, 1)}, {}),
            (missed, {0: result(900, 2)}, {}),
            (ahead, {0: first}, rivals),
            (order, {0: result(700, 8)}, rivals),
            (published, {0: result(941, 3)}, {}),
        )
    ]
    images = [
        Row(replace(c, fields=(("images", n),)), judged[0].verdict, {}, {0: result(900 + n, n)}, 0)
        for n in (1, 2, 4, 8)
        for c in (claim(LIMIT, f"here-{n}-images", method="nearest+ibc"),)
    ]
    rows = [*judged, *images]
    found = [Found(row, history=(EVENT,)) for row in rows]
    skip = Row(waits, skipped(waits, "<no> data", "quantbench data fetch it"), {}, {}, 0.0)
    failed = Row(waits, Verdict(Outcome.REFUSED, gates=True, reason="no integer form"), {}, {}, 0.0)
    failed = replace(failed, claim=claim(LIMIT, "here-refused"))
    was = replace(rows[0], claim=claim(LIMIT, "here-accepted", method="nearest", value=3.0))
    return [*found, Found(skip), Found(failed), Found(was, accepted=True)]
