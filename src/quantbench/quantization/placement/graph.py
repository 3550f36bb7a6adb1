"""A simulation's operators in execution order, each with its inputs, users and container."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor, nn

from quantbench.errors import Unsupported
from quantbench.network.graph.forward_pass import forward_pass, is_operator
from quantbench.network.graph.recording import Recording
from quantbench.quantization.layers import ActQuant, QuantLayer


def record_operators(
    model: nn.Module, sample: Tensor, opaque: Mapping[nn.Module, str] = MappingProxyType({})
) -> Recording:
    """All calls of one forward pass of a simulation.

    The network's input comes first, its output last.

    Args:
        model: the simulation, its quantizers off.
        sample: (N, ...) inputs.
        opaque: modules that are not looked into, and why.

    Raises:
        Unsupported: what the network does depends on values, a tensor is read after it was changed
            in place, or the network gives anything but one tensor.

    """
    found = forward_pass(model, (sample,), is_leaf, opaque)
    if not isinstance(found.output, Tensor):
        raise Unsupported(f"the network returns {type(found.output).__name__}, not one tensor")
    if not found.nodes[-1].by_example:
        raise Unsupported(
            f"the network gives {tuple(found.output.shape)} for {len(found.nodes[0].example)} "
            "examples: the first dimension has to be theirs"
        )
    for node in found.nodes:
        if node.stale:
            raise Unsupported(
                f"{node.name} reads {node.stale} after it was changed in place: "
                "write that without changing it"
            )
    return found


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is one operator, not a container of several."""
    return isinstance(module, QuantLayer | ActQuant) or is_operator(module)
