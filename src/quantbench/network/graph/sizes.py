"""Numbers of a recording that follow the number of examples.

A forward pass is recorded for two and for three examples. A whole number that differs between the
two, such as the one in ``x.view(6, -1)``, is made a multiple of the size of a tensor at hand whose
sizes differ in the same proportion.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, fx

from quantbench.network.graph.calls import Node, Size, leaves, mapped, parts
from quantbench.network.graph.recording import Container, Recording

_UNSEEN = (
    "it takes a tensor that no call of torch's was seen to make: a torch.autograd.Function of its "
    "own, or a function outside torch"
)


def follow_sizes(two: Recording, three: Recording) -> None:
    """Put sizes in place of the numbers of ``two`` that are others in ``three``.

    A container whose calls are others, or whose numbers follow no size, gets an obstacle; so does
    one that takes a tensor which is another one in each pass, and which no call was seen to make.
    """
    for ours, theirs in zip(two.containers, three.containers, strict=False):
        _follow_graph(ours, theirs)
    entries = [n for n in two.nodes if n.op == "placeholder"]
    first = [n.example for n in (two.nodes[0], three.nodes[0])]
    shapes = dict(zip(two.nodes, three.nodes, strict=False))
    for a, b in zip(two.nodes, three.nodes, strict=False):
        if a.name != b.name:
            return  # a container has an obstacle
        a.by_example = _by_example(a, b, first)

        def size(x: int, y: int, a: Node = a) -> Any:
            pairs = [(n, n.example, shapes[n].example) for n in (*a.inputs, *entries)]
            found = _source(pairs, x, y)
            return x if found is None else Size(*found)

        a.args, a.kwargs = _replaced(a.args, b.args, size), _replaced(a.kwargs, b.kwargs, size)


def _by_example(a: Node, b: Node, entries: list[Any]) -> bool:
    """Whether all tensors of a call have as many entries as there are examples, in both passes."""
    if not entries or not isinstance(entries[0], Tensor):
        return True
    counts = [len(t) for t in entries]
    found = zip(parts(a.example), parts(b.example), strict=False)
    return all(
        x.dim() > 0 and [len(x), len(y)] == counts and x.shape[1:] == y.shape[1:]
        for (_, x), (_, y) in found
    )


def _follow_graph(a: Container, b: Container) -> None:
    """The same in a container's own graph, where a size is a call as well."""
    ours, theirs = list(a.graph.nodes), list(b.graph.nodes)
    pairs = list(zip(ours, theirs, strict=False))
    same = a.path == b.path and len(ours) == len(theirs)
    if not same or any(x.op != y.op or x.target != y.target for x, y in pairs):
        a.obstacle, a.values = "it makes other calls for another number of examples", True
        return
    if any(x is not y for x, y in zip(a.unseen, b.unseen, strict=False)):
        a.obstacle, a.values = _UNSEEN, True
        return
    if any(not torch.equal(x, y) for x, y in zip(a.changed, b.changed, strict=False)):
        a.obstacle = "it changes a tensor in place that depends on the number of examples"
        a.values = True
        return
    entries = [n for n in ours if n.op == "placeholder" or "tensor" in n.meta]
    met = {x: y.meta.get("tensor") for x, y in pairs}
    for x, y in pairs:

        def size(p: int, q: int, x: fx.Node = x) -> Any:
            near = [*x.all_input_nodes, *(n for n in entries if n.op == "placeholder" or n < x)]
            found = _source([(n, n.meta.get("tensor"), met.get(n)) for n in near], p, q)
            if found is None:
                a.obstacle = f"a number in {x.name} depends on the number of examples"
                return p
            return _call(a.graph, x, *found)

        x.args, x.kwargs = _replaced(x.args, y.args, size), _replaced(x.kwargs, y.kwargs, size)


def _call(
    graph: fx.Graph, before: fx.Node, source: fx.Node, dim: int, times: int, over: int
) -> Any:
    """The size as calls in the graph."""
    with graph.inserting_before(before):
        found = graph.call_method("size", (source, dim))
        if times > 1:
            found = graph.call_function(operator.mul, (found, times))
        return found if over == 1 else graph.call_function(operator.floordiv, (found, over))


def _replaced(ours: Any, theirs: Any, size: Any) -> Any:
    """Arguments with ``size(x, y)`` where a whole number is another one."""
    other = iter(leaves(theirs))

    def one(x: Any) -> Any:
        y = next(other, x)
        differ = isinstance(x, int) and isinstance(y, int) and x != y
        return size(x, y) if differ and not isinstance(x, bool) else x

    return mapped(ours, one)


def _source(
    pairs: Iterable[tuple[Any, Any, Any]], x: int, y: int
) -> tuple[Any, int, int, int] | None:
    """(whose, dimension, times, over) of a size that is in proportion to both numbers."""
    for node, two, three in pairs:
        if not isinstance(two, Tensor) or not isinstance(three, Tensor):
            continue
        for dim, (m, n) in enumerate(zip(two.shape, three.shape, strict=False)):
            if m != n and x * n == y * m:
                return node, dim, *Fraction(x, m).as_integer_ratio()
    return None
