"""Units of reconstruction: which layers are rounded together, and where their error is measured."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from quantbench.calibration.memory import Activations
from quantbench.calibration.walk import Walk
from quantbench.errors import BadInput
from quantbench.network.activation_functions import Bounds
from quantbench.network.network import Network
from quantbench.optimization.reconstruction import squared_error
from quantbench.optimization.soft_rounding import ACTIVATION_FUNCTIONS
from quantbench.quantization.layers import ActQuant
from quantbench.quantization.quantized import Quantized

GRANULARITIES = ("layer", "block", "stage", "network")


@dataclass(frozen=True)
class Unit:
    """Layers that are optimised together.

    Attributes:
        layers: their names, in execution order.
        stop: module whose output is reconstructed.
        activation: activation function that is applied to that output first, see
            :class:`~quantbench.quantization.layers.QuantLayer`; only for a layer on its own, since
            blocks contain theirs.

    """

    layers: tuple[str, ...]
    stop: str
    activation: str | Bounds | None = None


def units(q: Quantized, granularity: str) -> tuple[Unit, ...]:
    """Units of a network in execution order.

    Layers outside all blocks are units of their own, embeddings in none.

    Args:
        q: network with the layers that its scheme quantizes.
        granularity: ``layer``, ``block``, ``stage`` or ``network``.

    Warns:
        UserWarning: the network has no blocks, so that layers take their place.

    Raises:
        BadInput: a block without layers, or a layer in two blocks.

    """
    infos = [info for info in q.infos if info.kind != "embedding"]  # which learnt_layers rounds
    net, names = q.net, [info.name for info in infos]
    if granularity == "network":
        return (Unit(tuple(names), names[-1], None),)
    groups: tuple[tuple[str, ...], ...] = ()
    if granularity != "layer":
        groups = tuple((block,) for block in net.blocks) if granularity == "block" else net.stages
        if not groups:
            warnings.warn(
                f"{net.name} has no known {granularity}s: every layer is reconstructed on its own",
                stacklevel=2,
            )
    found = [_unit(net, names, group) for group in groups]
    together = [name for unit in found for name in unit.layers]
    if twice := sorted({name for name in together if together.count(name) > 1}):
        raise BadInput(
            f"{net.name}: {', '.join(twice)} in more than one block; a layer is reconstructed once"
        )
    rest = [info for info in infos if info.name not in together]
    alone = [Unit((i.name,), i.name, q.layer(i.name).activation) for i in rest]
    all_units = [unit for unit in [*found, *alone] if unit.layers]
    return tuple(sorted(all_units, key=lambda unit: names.index(unit.layers[0])))


def require_granularity(granularity: str) -> None:
    """Refuse an unknown granularity."""
    if granularity not in GRANULARITIES:
        raise BadInput(f"granularity {granularity!r}: choose {', '.join(GRANULARITIES)}")


def _unit(net: Network, names: list[str], modules: tuple[str, ...]) -> Unit:
    """Layers inside some modules; those that the scheme leaves alone are left out."""
    for module in modules:
        if not any(_inside(info.name, module) for info in net.layers):
            raise BadInput(
                f"{net.name}: block {module!r} has no layer with weights; leave it out of the "
                "blocks"
            )
    layers = tuple(name for name in names if any(_inside(name, m) for m in modules))
    return Unit(layers, modules[-1])


def _inside(name: str, module: str) -> bool:
    """Whether a module is, or lies in, another one."""
    return name == module or name.startswith(f"{module}.")


def walked(
    q: Quantized, walk: Walk, parts: Sequence[Unit]
) -> Iterator[tuple[Unit, dict[str, ActQuant]]]:
    """Each unit, with the walk at its first layer, and the activation quantizers to learn in it.

    These are the ones that run in it but in none before.
    """
    learnt: set[str] = set()
    for unit in parts:
        walk.to(unit.layers[0])
        new = {n: act for n, act in q.act_quants().items() if n not in learnt}
        acts = {n: act for n, act in new.items() if n in walk.before.runs(unit.stop)}
        learnt |= acts.keys()
        yield unit, acts


@torch.no_grad()
def mean_error(walk: Walk, unit: Unit, target: Activations) -> float:
    """||z - z^||^2 over all examples, with the weights as they are."""
    fa, total = ACTIVATION_FUNCTIONS[unit.activation], 0.0
    for part in walk.before.batches():
        error = squared_error(fa(walk.before.forward(part, unit.stop)), target.take(part))
        total += float(error) * (part.stop - part.start)
    return total / len(target)
