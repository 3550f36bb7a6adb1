"""Changes of shape, and of the order of directions."""

from __future__ import annotations

import math
from typing import Any

import onnx

from quantbench.integer import ir
from quantbench.integer.qdq.graph import Graph, attribute
from quantbench.integer.qdq.state import Sizes, State
from quantbench.quantization.placement.kinds import plane


def reshaped(r: State, node: onnx.NodeProto, x: str) -> str:
    """The same values in other sizes; a vector of maps in the order of the definition.

    Raises:
        Unsupported: sizes that are not known, or that do not leave the images apart.

    """
    seen, shape = r.seen(x), r.shapes[x]
    if shape[1:] == (1, 1) and node.op_type in ("Squeeze", "Unsqueeze"):
        return x
    sizes = _SIZES[node.op_type](r.graph, node, seen)
    if math.prod(sizes) != math.prod(seen):
        raise r.graph.refuse(node, f"takes {seen} to {sizes} for each image")
    if sizes == seen:
        return x
    about: dict[str, Any] = {"name": node.name or node.output[0], "inputs": (x,)}
    about |= {"output": r.name(node.output[0]), "out": r.formats[x]}
    if all(s == 1 for s in sizes[1:]):
        return x if shape[1:] == (1, 1) else r.push(ir.Flatten(**about))
    return _seen_as(r, sizes, ir.Rearrange(**about, split=shape, axes=(0, 1, 2), into=_map(sizes)))


def transposed(r: State, node: onnx.NodeProto, x: str) -> str:
    """The same values with their directions in another order.

    Raises:
        Unsupported: an order that moves the images.

    """
    order = list(attribute(node, "perm", []))
    seen = r.seen(x)
    if r.shapes[x][1:] == (1, 1) and order:  # a vector has as many sizes of 1 as it takes
        seen = (seen[0], *(1,) * (len(order) - 2))
    if not order or order[0] != 0 or len(order) != len(seen) + 1:
        raise r.graph.refuse(node, f"puts directions in the order {order}, and images among them")
    if order == sorted(order):
        return x
    axes = tuple(a - 1 for a in order[1:])
    sizes = tuple(seen[a] for a in axes)
    made = ir.Rearrange(
        name=node.name or node.output[0],
        inputs=(x,),
        output=r.name(node.output[0]),
        out=r.formats[x],
        split=seen,
        axes=axes,
        into=_map(sizes),
    )
    return _seen_as(r, sizes, made)


def _map(sizes: Sizes) -> ir.Shape:
    return plane((1, *sizes))


def _seen_as(r: State, sizes: Sizes, op: ir.Rearrange) -> str:
    """Append it; what it makes has these sizes in the file."""
    made = r.push(op)
    if sizes != op.into:
        r.sizes[made] = sizes
    return made


def _flattened(graph: Graph, node: onnx.NodeProto, seen: Sizes) -> Sizes:
    if attribute(node, "axis", 1) != 1:
        raise graph.refuse(node, "flattens along another axis than the first")
    return (math.prod(seen),)


def _reshaped(graph: Graph, node: onnx.NodeProto, seen: Sizes) -> Sizes:
    """One size may be open: it follows from the others."""
    first, *rest = _target(graph, node, seen)
    open_sizes = [i for i, s in enumerate(rest) if s == -1]
    if len(open_sizes) > 1:
        raise graph.refuse(node, "takes sizes that the graph computes")
    for i in open_sizes:
        rest[i] = math.prod(seen) // max(math.prod(s for s in rest if s != -1), 1)
    if first not in (1, -1, graph.batch) or not rest:
        raise graph.refuse(node, f"takes {seen} for each image to sizes that mix images")
    return tuple(rest)


def _target(graph: Graph, node: onnx.NodeProto, seen: Sizes) -> list[int]:
    """Sizes with the images', -1 where one is open."""
    target = graph.constants.get(node.input[1])
    if target is None:  # the graph computes them
        found = graph.sizes.get(node.output[0])
        if not found:
            raise graph.refuse(node, "takes sizes that the graph computes")
        return [s or -1 for s in found]
    if attribute(node, "allowzero", 0):
        raise graph.refuse(node, "may take sizes of 0")
    given = (1, *seen, *(0,) * len(target))
    return [given[i] if s == 0 else int(s) for i, s in enumerate(target.tolist())]


def _squeezed(graph: Graph, node: onnx.NodeProto, seen: Sizes) -> Sizes:
    rank = len(seen) + 1
    axes = {a % rank for a in _axes(graph, node)}
    if 0 in axes or any(seen[a - 1] != 1 for a in axes):
        raise graph.refuse(node, f"takes axes {sorted(axes)} of {seen} for each image away")
    return tuple(s for a, s in enumerate(seen, start=1) if a not in axes)


def _unsqueezed(graph: Graph, node: onnx.NodeProto, seen: Sizes) -> Sizes:
    given = _axes(graph, node)
    rank = len(seen) + 1 + len(given)
    axes, left = {a % rank for a in given}, iter(seen)
    if 0 in axes or len(axes) < len(given):
        raise graph.refuse(node, f"puts axes {given} before the images, or twice")
    return tuple(1 if a in axes else next(left) for a in range(1, rank))


def _axes(graph: Graph, node: onnx.NodeProto) -> list[int]:
    found = attribute(node, "axes", None)
    if found is None and len(node.input) > 1 and node.input[1] in graph.constants:
        found = graph.constants[node.input[1]].reshape(-1).tolist()
    if found is None:
        raise graph.refuse(node, "its axes are no constants")
    return [int(a) for a in found]


_SIZES = {
    "Flatten": _flattened,
    "Reshape": _reshaped,
    "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed,
}
SHAPES = tuple(_SIZES)
