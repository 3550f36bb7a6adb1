"""Bit allocation as an integer program: one choice of bits per layer.

Hubara et al., ICML 2021, arXiv 2006.10518, eq. 5.

The paper takes the largest gain whose loss stays below a limit (eq. 5a to 5d); the released code
the smallest loss whose size stays below one. Both are multiple-choice knapsacks over the same
numbers, solved to optimality by HiGHS.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from quantbench.errors import BadInput
from quantbench.quantization.scheme import Override
from quantbench.search.integer_program import solve
from quantbench.search.knapsack import undecided


@dataclass(frozen=True)
class Choice:
    """One (weight bits, activation bits) option of one layer.

    Attributes:
        weights: weight bits.
        acts: activation bits; ``None`` keeps the scheme's own.
        loss: Delta L_l, loss of the network with this choice and the rest at 8 bits,
            minus that with every layer at 8 bits.
        cost: what the choice costs: bits of memory, bit operations or seconds. Its gain, Delta P_l,
            is the cost of the layer's dearest option minus this.

    """

    weights: int
    acts: int | None
    loss: float
    cost: float


Options = Mapping[str, Sequence[Choice]]  # by layer name


@dataclass(frozen=True)
class Allocation:
    """One choice per layer, and how sure the solver is of it.

    Attributes:
        choices: the chosen option of every layer.
        loss: sum of the losses.
        cost: sum of the costs.
        gain: sum of the gains.
        status: HiGHS's words, ``Optimal`` when proven.
        gap: relative gap between the objective and its bound; 0 when proven.
        bound: proven bound on the objective: the least loss, or the largest gain.

    """

    choices: Mapping[str, Choice]
    loss: float
    cost: float
    gain: float
    status: str
    gap: float
    bound: float

    @property
    def overrides(self) -> tuple[Override, ...]:
        """The allocation as a mixed-precision scheme's overrides."""
        return tuple(Override(layer, c.weights, c.acts) for layer, c in self.choices.items())


def max_gain(options: Options, loss_limit: float) -> Allocation:
    """The paper's form: the largest gain within a loss (eq. 5a to 5d).

    Max sum of Delta P subject to sum of Delta L <= the limit, one choice per layer.

    Raises:
        BadInput: no options, numbers that are not finite, or a limit below the smallest feasible
            one, which is named.

    """
    return _solve(options, objective="cost", limited="loss", limit=loss_limit)


def min_loss(options: Options, cost_limit: float) -> Allocation:
    """The code's form: the least loss within a cost.

    Min sum of Delta L subject to sum of costs <= the limit, one choice per layer.

    Raises:
        BadInput: as :func:`max_gain`.

    """
    return _solve(options, objective="loss", limited="cost", limit=cost_limit)


def front(options: Options, *, points: int | None = None) -> list[Allocation]:
    """Pareto front of cost and loss, from the dearest to the cheapest allocation.

    Args:
        options: choices by layer.
        points: how many cost limits to try, evenly spaced; ``None`` finds every point of the front,
            one solver call each, for costs that are whole numbers or differ by more than a
            billionth of their sum.

    Returns:
        allocations of which none is at least as good as another in both cost and loss.

    """
    _require_choices(options)
    least = sum(min(c.cost for c in layer) for layer in options.values())
    most = sum(max(c.cost for c in layer) for layer in options.values())
    found: list[Allocation] = []
    if points is not None:
        limits = np.linspace(most, least, points)
        found = [min_loss(options, limit) for limit in limits[:-1]] + [min_loss(options, least)]
    else:
        whole = all(float(c.cost).is_integer() for layer in options.values() for c in layer)
        step, limit = 1.0 if whole else 1e-9 * most, most
        while limit >= least:
            found.append(min_loss(options, limit))
            limit = found[-1].cost - step
    return _undominated(found)


def _undominated(found: Sequence[Allocation]) -> list[Allocation]:
    """Drop what another allocation matches or beats in both cost and loss."""
    kept: list[Allocation] = []
    for a in sorted(found, key=lambda a: (a.cost, a.loss)):
        if not kept or a.loss < kept[-1].loss:
            kept.append(a)
    return kept[::-1]


def _require_choices(options: Options) -> None:
    """Refuse what is no allocation problem."""
    if not options:
        raise BadInput("bit allocation without layers: give the options of at least one")
    for layer, choices in options.items():
        if not choices:
            raise BadInput(f"layer {layer!r} has no options to choose from")
        for c in choices:
            if not (math.isfinite(c.loss) and math.isfinite(c.cost)):
                raise BadInput(
                    f"layer {layer!r} at {c.weights} bits: loss {c.loss} and cost {c.cost} must "
                    "be finite"
                )


def _solve(options: Options, *, objective: str, limited: str, limit: float) -> Allocation:
    """Minimise the sum of one attribute while that of the other stays within its limit."""
    _require_choices(options)
    layers = list(options.values())
    least = math.fsum(min(getattr(c, limited) for c in layer) for layer in layers)
    if not limit >= least - 1e-12 * abs(least):  # the last bits of a sum of floats
        raise BadInput(
            f"no allocation has a total {limited} of at most {limit:g}: the smallest feasible is "
            f"{least!r}"
        )
    # Relative to each layer's least, so that nothing remains of the numbers but what can be chosen.
    goal, used = (_above_least(layers, name) for name in (objective, limited))
    spare = max(limit - least, 0.0)
    pick, status, gap, bound = solve(goal, used, spare, undecided(goal, used, spare))
    choices = {name: options[name][i] for name, i in zip(options, pick, strict=True)}
    loss = math.fsum(c.loss for c in choices.values())
    cost = math.fsum(c.cost for c in choices.values())
    dearest = math.fsum(max(c.cost for c in layer) for layer in layers)
    bound += math.fsum(min(getattr(c, objective) for c in layer) for layer in layers)
    if objective == "cost":  # the least cost is the largest gain
        bound = dearest - bound
    return Allocation(choices, loss, cost, dearest - cost, status, gap, bound)


def _above_least(layers: Sequence[Sequence[Choice]], name: str) -> np.ndarray:
    """(layers, options) of one attribute, less each layer's smallest.

    Infinite where a layer has fewer options.
    """
    out = np.full((len(layers), max(map(len, layers))), np.inf)
    for row, layer in zip(out, layers, strict=True):
        values = np.array([getattr(c, name) for c in layer], dtype=float)
        row[: len(layer)] = values - values.min()
    return out
