"""Bits per layer when layers of a block do not add up: a genetic search, and the optimum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from quantbench.search.bit_allocation import Allocation, Choice, min_loss

TRIES = 20

Genes = NDArray[np.int64]  # (..., layers) number of the option that each layer has


@dataclass(frozen=True, eq=False)
class Problem:
    """min sum of losses over groups of layers, subject to sum of costs over layers <= a limit.

    Attributes:
        costs: (layers, options), such as bits of memory or milliseconds.
        groups: layers whose losses depend on one another, as numbers; every layer is in one group.
        losses: for each group an array with one axis of options per layer.

    """

    costs: NDArray[np.float64]
    groups: tuple[tuple[int, ...], ...]
    losses: tuple[NDArray[np.float64], ...]

    def loss(self, genes: Genes) -> NDArray[np.float64]:
        """Sum of losses of assignments (..., layers)."""
        parts = (
            table[tuple(genes[..., i] for i in g)]
            for g, table in zip(self.groups, self.losses, strict=True)
        )
        return np.asarray(sum(parts, start=np.zeros(genes.shape[:-1])))

    def cost(self, genes: Genes) -> NDArray[np.float64]:
        """Sum of costs of assignments (..., layers)."""
        return np.asarray(self.costs[np.arange(len(self.costs)), genes].sum(-1))

    @property
    def cheapest(self) -> Genes:
        """The assignment of least cost."""
        return np.asarray(self.costs.argmin(1))


def exact(problem: Problem, limit: float) -> tuple[Genes, Allocation]:
    """The optimum, proven by HiGHS.

    A group is one choice among all combinations of its layers' options.

    Raises:
        BadInput: no assignment is within the limit.

    """
    options = {}
    for number, (group, table) in enumerate(zip(problem.groups, problem.losses, strict=True)):
        rows = product(range(problem.costs.shape[1]), repeat=len(group))
        costs = [float(problem.costs[list(group), list(row)].sum()) for row in rows]
        both = enumerate(zip(table.ravel(), costs, strict=True))
        options[str(number)] = [Choice(i, None, float(loss), cost) for i, (loss, cost) in both]
    found = min_loss(options, limit)
    genes = np.zeros(len(problem.costs), np.int64)
    for number, (group, table) in enumerate(zip(problem.groups, problem.losses, strict=True)):
        genes[list(group)] = np.unravel_index(found.choices[str(number)].weights, table.shape)
    return genes, found


def genetic(
    problem: Problem,
    limit: float,
    rng: np.random.Generator,
    *,
    population: int,
    iterations: int,
    mutation: float,
) -> tuple[Genes, list[float]]:
    """Evolve assignments within the limit.

    The better half of all seen so far are the parents of the next generation.

    Half of the children are copies of a parent in which each layer is drawn again with probability
    ``mutation``, half take each layer from one of two parents; children over the limit are drawn
    again, at most ``TRIES`` times. In the first generation, drawn at random, layers over the limit
    are put at their cheapest option one after another.

    Args:
        problem: what to solve; its cheapest assignment is within the limit.
        limit: on the cost.
        rng: source of randomness.
        population: number of children in a generation.
        iterations: number of generations.
        mutation: probability.

    Returns:
        the best assignment, and the best loss after each generation.

    """
    layers, options = problem.costs.shape
    half = max(population // 2, 1)
    children = _fitting(problem, limit, rng.integers(0, options, (population, layers)), rng)
    parents, curve = children[:0], []

    def mutants() -> Genes:
        chosen = parents[rng.integers(0, len(parents), half)]
        drawn = rng.random(chosen.shape) < mutation
        return np.where(drawn, rng.integers(0, options, chosen.shape), chosen)

    def crossed() -> Genes:
        first = parents[rng.integers(0, len(parents), population - half)]
        second = parents[rng.integers(0, len(parents), population - half)]
        return np.where(rng.random(first.shape) < 0.5, first, second)

    for _ in range(iterations):
        everyone = np.unique(np.concatenate([parents, children]), axis=0)
        parents = everyone[np.argsort(problem.loss(everyone), kind="stable")[:half]]
        curve.append(float(problem.loss(parents[0])))
        both = [_drawn(problem, limit, draw) for draw in (mutants, crossed)]
        children = np.concatenate(both)
    everyone = np.concatenate([parents, children])
    best = everyone[problem.loss(everyone).argmin()]
    return best, [*curve, float(problem.loss(best))]


def _drawn(problem: Problem, limit: float, draw: Callable[[], Genes]) -> Genes:
    """Children within the limit, one draw's, or fewer if ``TRIES`` draws do not give as many."""
    drawn = draw()
    wanted, found = len(drawn), drawn[problem.cost(drawn) <= limit]
    for _ in range(TRIES - 1):
        if len(found) >= wanted:
            break
        drawn = draw()
        found = np.concatenate([found, drawn[problem.cost(drawn) <= limit]])
    return found[:wanted]


def _fitting(problem: Problem, limit: float, genes: Genes, rng: np.random.Generator) -> Genes:
    """Assignments within the limit.

    In those that are not, one random layer after another becomes cheapest.
    """
    genes = genes.copy()
    for row in genes:
        for layer in rng.permutation(len(row)):
            if problem.cost(row) <= limit:
                break
            row[layer] = problem.cheapest[layer]
    return genes
