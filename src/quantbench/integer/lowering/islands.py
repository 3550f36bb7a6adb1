"""Parts of a network that stay in floats, as functions of quantized tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from quantbench.errors import Unsupported
from quantbench.integer.ir import Shape
from quantbench.network.graph.calls import Node
from quantbench.quantization.placement.arguments import KEEPS_FORMAT
from quantbench.quantization.placement.kinds import MAPS, Kind, plane


def island(
    node: Node, nodes: list[Node], kinds: Mapping[Node, Kind]
) -> tuple[list[Node], Callable[..., Tensor]]:
    """Everything in front of a float result, back to tensors that have codes.

    Args:
        node: the result.
        nodes: all calls, in execution order.
        kinds: what they mean.

    Returns:
        The calls whose values it starts from, and the function of these, (N, C, H, W) each, that
        computes the result.

    """
    found, todo = {node}, [node]
    while todo:
        for before in todo.pop().inputs:
            if before not in found and not _coded(before, kinds):
                todo.append(before)
            found.add(before)
    within = [n for n in nodes if n in found]
    sources = [n for n in within if n is not node and _coded(n, kinds)]
    inner = [n for n in within if n not in sources]

    def function(*tensors: Tensor) -> Tensor:
        values = {
            n: t.reshape(len(t), *n.example.shape[1:])
            for n, t in zip(sources, tensors, strict=True)
        }
        for n in inner:
            values[n] = n.run(values)
        result = values[node]
        return result.reshape(len(result), *shape(node))

    return sources, function


def _coded(node: Node, kinds: Mapping[Node, Kind]) -> bool:
    """Whether a value has codes: a quantizer's, the input's, and what keeps the format of such."""
    word = kinds[node].word
    return word in ("quant", "input") or (word in KEEPS_FORMAT and _coded(node.inputs[0], kinds))


def shape(node: Node) -> Shape:
    """(C, H, W) of a call's result.

    Raises:
        Unsupported: it is no vector, line, image or volume.

    """
    if node.example.dim() not in MAPS:
        found = tuple(node.example.shape[1:])
        raise Unsupported(
            f"{node.name}: its result is {found} for an example, and a program's tensors are "
            "vectors (C), lines (C, L), images (C, H, W) or volumes (C, D, H, W)"
        )
    return plane(node.example.shape)
