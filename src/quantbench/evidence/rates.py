"""How often a verdict is wrong, simulated: ``python -m quantbench.evidence.rates``.

Made-up networks, of which the true drop is known, go through the judge. docs/statistics.md has what
this prints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from quantbench.claims.claim import Claim, Kind, Rival
from quantbench.claims.source import Source
from quantbench.evidence.judge import judge
from quantbench.evidence.result import Result
from quantbench.evidence.verdict import AGREES, MISSES
from quantbench.quantization.scheme import Grid, Scheme

FULL = 0.92  # share of the images that full precision has right

CHANGED = 0.05  # share of the images whose answer changes

NOISE = 0.5  # points that one seed differs from another by, as a standard deviation

Draw = Callable[[np.random.Generator], Sequence[Result]]


def claim(kind: Kind, value: float | None, tol: float) -> Claim:
    """A claim on a drop in top-1, of a network of the authors' on all images, or of two methods."""
    return Claim(
        id=f"simulated/{kind}",
        paper="simulated",
        kind=kind,
        model="cifar10/resnet20",
        data="cifar10/test",
        published_on="cifar10/test",
        method="nearest",
        fields=(),
        scheme=Scheme(Grid(4)),
        rival=Rival("nearest", (), Scheme(Grid(4))) if kind == "beats" else None,
        metric="top1_drop",
        value=value,
        value_to=None,
        sd=None,
        runs=None,
        fp=None,
        fp_tol=0.1,
        tol=tol,
        tol_why="simulated",
        gates=True,
        seeds=(0,),
        calib=None,
        follows="paper",
        note="",
        xfail=None,
        skip="",
        source=Source("simulated", "", "", "", "authors", "read", ""),
        where="",
        checkpoint="authors",
    )


PUBLISHED, LIMIT, BEATS = (
    claim("value", 2.0, 1.0),
    claim("max_drop", 1.0, 0.0),
    claim("beats", None, 0.0),
)

# what is asked, how many images, how the truth is described, points that are truly lost
ROWS = (
    (PUBLISHED, 300, "the same", 2.0),
    (PUBLISHED, 5000, "the same", 2.0),
    (PUBLISHED, 10_000, "the same", 2.0),
    (PUBLISHED, 10_000, "1 point worse: the tolerance", 3.0),
    (PUBLISHED, 10_000, "2 points worse", 4.0),
    (LIMIT, 1000, "0.5", 0.5),
    (LIMIT, 1000, "1.5", 1.5),
    (LIMIT, 10_000, "0.5", 0.5),
    (LIMIT, 10_000, "1.0: the limit", 1.0),
    (LIMIT, 10_000, "1.5", 1.5),
)

ASKED = {"value": "published drop 2, tolerance 1", "max_drop": "drop of at most 1"}


def quantized(rng: np.random.Generator, n: int, drop: float) -> Result:
    """A network that truly loses ``drop`` points, on ``n`` images drawn anew."""
    fp = np.arange(n) < FULL * n
    lost = (CHANGED + drop / 100) / 2 / FULL
    won = (CHANGED - drop / 100) / 2 / (1 - FULL)
    u = rng.random(n)
    return Result.of(fp, np.where(fp, u >= lost, u < won), "simulated")


def outcomes(asked: Claim, *draws: Draw, sets: int = 1000) -> Mapping[str, float]:
    """Share of each verdict over simulated data sets.

    Args:
        asked: the claim.
        draws: make the runs of one data set, a result for each seed; a second, those of the rival.
        sets: how many data sets.

    """
    rng = np.random.default_rng(0)
    found = Counter(
        str(judge(asked, *(dict(enumerate(draw(rng))) for draw in draws)).outcome)
        for _ in range(sets)
    )
    return {word: count / sets for word, count in found.items()}


def _one(rng: np.random.Generator, n: int, drop: float) -> list[Result]:
    return [quantized(rng, n, drop)]


def seeds(rng: np.random.Generator, k: int, n: int, drop: float = 2.0) -> list[Result]:
    """Runs of one method on the same images; each seed has a drop of its own."""
    return [quantized(rng, n, drop + NOISE * rng.normal()) for _ in range(k)]


def told_apart(k: int, n: int) -> float:
    """How often two equal methods are, with as many seeds each."""
    rates = outcomes(BEATS, *2 * [lambda rng: seeds(rng, k, n)], sets=400)
    return 1 - rates["TIE"]


def main() -> None:
    """Print the table of docs/statistics.md, and the shares that are named below it."""
    print("| asked | images | truth | passes | undecided | fails |\n|---|---|---|---|---|---|")
    last = ""
    for asked, n, truth, drop in ROWS:
        rates = outcomes(asked, partial(_one, n=n, drop=drop))
        passes, fails = (sum(rates.get(word, 0.0) for word in words) for words in (AGREES, MISSES))
        shares = (passes, rates.get("UNDECIDED", 0.0), fails)
        kind = "" if asked.kind == last else ASKED[asked.kind]
        last = asked.kind
        cells = (kind, f"{n:,}", truth, *(f"{100 * share:.1f} %" for share in shares))
        print(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    for k in (1, 3):
        print(
            f"two equal methods told apart, seeds of each {k}: {100 * told_apart(k, 10_000):.0f} %"
        )


if __name__ == "__main__":
    main()
