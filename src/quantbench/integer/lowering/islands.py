"""Parts of a network that stay in floats, as functions of quantized tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.errors import Unsupported
from quantbench.integer.ir import Shape
from quantbench.network.graph.calls import Node
from quantbench.network.graph.recording import DEPENDS
from quantbench.quantization.placement.arguments import KEEPS_FORMAT
from quantbench.quantization.placement.kinds import MAPS, Kind, plane


class Island(nn.Module):
    """A part of a network as a function of the tensors that it starts from.

    A module, so that what exports graphs of torch finds its parameters.

    Args:
        sources: the calls whose values are given, in the order of the arguments.
        inner: the calls in execution order; the last one's value is the result.

    """

    def __init__(self, sources: list[Node], inner: list[Node]) -> None:
        super().__init__()
        self.sources, self.inner = sources, inner
        self.means = {n: m for n in inner if (m := _means(n))}
        self.depends = any(DEPENDS in n.why for n in inner)  # on values, so that no trace can be it
        self.training = False  # as the network is: exporters put back what they find
        self.parts = nn.ModuleList(n.target for n in inner if isinstance(n.target, nn.Module))

    def forward(self, *tensors: Tensor) -> Tensor:
        """(N, C, H, W) of float32 tensors (N, C, H, W)."""
        values: dict[Node, Any] = {
            n: _laid_out(t.reshape(t.shape[0], *n.example.shape[1:]), n.example)
            for n, t in zip(self.sources, tensors, strict=True)
        }
        for n in self.inner:
            if n in self.means:
                rows, columns = self.means[n]
                values[n] = rows @ values[n.inputs[0]] @ columns
            else:
                values[n] = _run(n, values)
        result = values[self.inner[-1]]
        shaped: Tensor = result.reshape(result.shape[0], *shape(self.inner[-1]))
        return shaped


def _laid_out(tensor: Tensor, example: Tensor) -> Tensor:
    """A tensor in memory as its example is: a network may take views of it."""
    strides = example.stride()
    order = sorted(range(example.dim()), key=lambda d: -strides[d])
    back = [order.index(d) for d in range(len(order))]
    return tensor.permute(order).contiguous().permute(back)


def _run(node: Node, values: Mapping[Node, Any]) -> Any:
    """A call's value, in spellings that exporters know."""
    if node.op == "get_attr":
        return node.target.detach()
    if node.target is getattr and node.args[1] == "mT":
        return values[node.inputs[0]].transpose(-2, -1)
    return node.run(values)


_ADAPTIVE = (nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d)


def _means(node: Node) -> tuple[Tensor, Tensor] | None:
    """The matrices on either side of an image that average windows which differ in size.

    Exporters know no such pool; None for every other call.
    """
    pool = node.target in _ADAPTIVE or type(node.target) in _ADAPTIVE
    if not pool or node.example.dim() != 4:
        return None
    before, after = node.inputs[0].example.shape[2:], node.example.shape[2:]
    rows, columns = (
        F.adaptive_avg_pool1d(torch.eye(n)[None], m)[0] for n, m in zip(before, after, strict=True)
    )
    return rows.T.contiguous(), columns


def island(node: Node, nodes: list[Node], kinds: Mapping[Node, Kind]) -> tuple[list[Node], Island]:
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
    return sources, Island(sources, inner)


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
