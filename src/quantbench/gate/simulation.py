"""How often the gate is wrong across machines, simulated: ``python -m quantbench.gate.simulation``.

Cells are drawn as they were measured on two kinds of machines (``CELLS``): some share of the images
is answered otherwise, half of it for the worse, and the network itself is another draw, so that its
accuracy differs by a little. The draws go through the functions that ``quantbench gate`` decides
with. docs/statistics.md has the figures.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quantbench.gate.losses import ALONE, SPREAD, TOGETHER, Pair, corrected, loss, pooled

RIGHT = 0.9  # share of the images that the accepted run has right; it decides nothing


@dataclass(frozen=True)
class Kind:
    """Some cells that are alike.

    Attributes:
        count: how many.
        n: images.
        discordant: share of the images that two kinds of machines answer otherwise.
        spread: standard deviation of what another kind of machine costs or gains, in points, beyond
            the sampling of images.
        anew: whether the gate knows that each kind of machine is another draw of them.

    """

    count: int
    n: int
    discordant: float
    spread: float
    anew: bool = False


@dataclass(frozen=True)
class Rates:
    """Shares of the repetitions.

    Attributes:
        alone: in which a cell is called lost.
        together: in which the test of all cells is.
        either: in which the gate fails.
        planted: in which the first cell is called lost.

    """

    alone: float
    together: float
    either: float
    planted: float


def simulate(
    kinds: Sequence[Kind], repeats: int, seed: int, one: float = 0.0, every: float = 0.0
) -> Rates:
    """Rates over repetitions.

    Args:
        kinds: of cells.
        repeats: how many repetitions.
        seed: of all draws.
        one: points that the first cell lost.
        every: points that every cell lost.

    """
    rng = np.random.default_rng([seed, repeats])
    counts = np.zeros(4)
    for _ in range(repeats):
        pairs = list(_drawn(kinds, rng, one, every))
        p = corrected({str(i): loss(pair).p for i, pair in enumerate(pairs)})
        alone = min(p.values()) < ALONE
        together = pooled(pairs).p < TOGETHER
        counts += alone, together, alone or together, p["0"] < ALONE
    return Rates(*(counts / repeats).tolist())


def _drawn(
    kinds: Sequence[Kind], rng: np.random.Generator, one: float, every: float
) -> Iterator[Pair]:
    """Accepted and present scores of every cell; those of as many images share their images."""
    for kind in kinds:
        for _ in range(kind.count):
            lost, one = every + one, 0.0
            yield _cell(kind, lost + rng.normal(0.0, kind.spread), rng)


def _cell(kind: Kind, points: float, rng: np.random.Generator) -> Pair:
    """One cell that truly lost so many points."""
    before = rng.random(kind.n) < RIGHT
    now = answered(before, kind, points, rng)
    return Pair(before, now, "top1", f"{kind.n}", spread=SPREAD if kind.anew else 0.0)


def answered(
    before: NDArray[np.bool_], kind: Kind, points: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Which images are right on another kind of machine, of a cell that lost so many points."""
    worse = kind.discordant / 2 + max(points, 0.0) / 100
    better = kind.discordant / 2 + max(-points, 0.0) / 100
    flips = np.where(before, worse / RIGHT, better / (1 - RIGHT))
    return before ^ (rng.random(kind.n) < flips)


# As the embedded cells of reference/baseline.json differ between kinds of machines that accepted
# them (``discordant``), each group as its worst cell; ``spread`` is that of the accepted values,
# less what the sampling of images explains. Scores of texts and detectors are no correctness; here
# they are.
CELLS = (
    *(
        Kind(45, 10_240, 0.0006, 0.0),
        Kind(9, 10_240, 0.0025, 0.03),
        Kind(6, 10_240, 0.018, 0.3, anew=True),
    ),
    Kind(10, 10_000, 0.0001, 0.0),
    *(Kind(7, 200, 0.0, 0.0), Kind(1, 200, 0.025, 0.3, anew=True)),
)

# The same, with what is lost in a cell that is drawn anew.
DRAWN = tuple(sorted(CELLS, key=lambda kind: not kind.anew))

# As it may be between processors that have nothing in common: every cell is another draw.
FAR = tuple(replace(kind, discordant=0.02, spread=0.1) for kind in CELLS)


def main(repeats: int = 500) -> None:
    """Print the figures of docs/statistics.md."""
    for title, kinds in (
        ("as between accepted kinds", CELLS),
        ("in a cell drawn anew", DRAWN),
        ("every cell another draw", FAR),
    ):
        print(f"{title:<30}   a cell  all cells   the gate  that cell")
        for name, one, every in (
            ("nothing", 0.0, 0.0),
            ("0.6 points in one cell", 0.6, 0.0),
            ("1 point in one cell", 1.0, 0.0),
            ("1.4 points in one cell", 1.4, 0.0),
            ("2 points in one cell", 2.0, 0.0),
            ("0.2 points in every cell", 0.0, 0.2),
            ("0.3 points in every cell", 0.0, 0.3),
        ):
            found = simulate(kinds, repeats, seed=0, one=one, every=every)
            shares = (found.alone, found.together, found.either, found.planted)
            print(f"{name:<30}" + "".join(f"{100 * share:9.1f} %" for share in shares))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
