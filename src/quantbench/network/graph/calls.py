"""Calls of operators as values: who calls what, with which arguments, and what came out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx


@dataclass(frozen=True, eq=False)
class Size:
    """A whole number that follows the number of examples: ``source.shape[dim] * times // over``.

    Attributes:
        source: whose size it follows.
        dim: the dimension.
        times: what it is multiplied by.
        over: what it is divided by.

    """

    source: Node
    dim: int
    times: int
    over: int

    def of(self, tensor: Tensor) -> int:
        """The number, given the source's value; while torch traces, a number that it follows."""
        return tensor.shape[self.dim] * self.times // self.over


@dataclass(eq=False, repr=False)
class Node:
    """One call of one operator.

    Attributes:
        name: unique; the module's name, or its container's and the function's for a function.
        container: name of the module whose ``forward`` makes the call.
        local: the call in that container's own graph.
        op: fx's word for what is called: ``placeholder``, ``call_module``, ``call_function``,
            ``call_method``, ``get_attr`` or ``output``.
        target: the module, the function, the method's name, or the attribute's value.
        args: positional arguments, in which other nodes stand for their values.
        kwargs: keyword arguments.
        example: what it gives for the sample.
        version: how often that tensor had been changed in place by then.
        stale: what it read after that was changed in place, by name.
        why: why nothing inside it is looked at, for a module that would be looked into.
        by_example: whether its value has one entry for each example, along the first dimension.
        constant: whether its value depends on none of the network's inputs, but for their sizes.
        users: the nodes that take its value.

    """

    name: str
    container: str
    local: fx.Node
    op: str
    target: Any
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    example: Any = None
    version: int = 0
    stale: str = ""
    why: str = ""
    by_example: bool = True
    constant: bool = False
    users: list[Node] = field(default_factory=list)

    def __repr__(self) -> str:
        """Its name: whole graphs hang on it."""
        return f"<{self.name}>"

    @property
    def inputs(self) -> list[Node]:
        """The nodes whose values it takes, and after them those that it only takes a size of."""
        values: list[Node] = []
        sizes: list[Node] = []
        for leaf in leaves((self.args, tuple(self.kwargs.values()))):
            if isinstance(leaf, Node):
                values.append(leaf)
            elif isinstance(leaf, Size):
                sizes.append(leaf.source)
        return values + [n for n in dict.fromkeys(sizes) if n not in values]

    def run(self, values: Mapping[Node, Any]) -> Any:
        """Its value, given those of its inputs."""

        def value(leaf: Any) -> Any:
            if isinstance(leaf, Node):
                return values[leaf]
            return leaf.of(values[leaf.source]) if isinstance(leaf, Size) else leaf

        args, kwargs = mapped(self.args, value), mapped(dict(self.kwargs), value)
        match self.op:
            case "get_attr":
                return self.target
            case "call_method":
                return getattr(args[0], self.target)(*args[1:], **kwargs)
            case "output":
                return args[0]
        return self.target(*args, **kwargs)


def mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """``value`` with everything in it replaced that is no tuple, list, dictionary or slice."""
    if isinstance(value, tuple | list):
        parts = [mapped(v, function) for v in value]
        # a named tuple takes its parts one by one; a torch.Size holds nothing but numbers
        if hasattr(value, "_fields"):
            return type(value)(*parts)
        return parts if isinstance(value, list) else tuple(parts)
    if isinstance(value, dict):
        return {k: mapped(v, function) for k, v in value.items()}
    if isinstance(value, slice):
        return slice(*(mapped(v, function) for v in (value.start, value.stop, value.step)))
    return function(value)


def leaves(value: Any) -> Iterator[Any]:
    """Everything in ``value`` that is no tuple, list, dictionary or slice, in order."""
    found: list[Any] = []
    mapped(value, found.append)
    yield from found


def parts(value: Any) -> Iterator[tuple[tuple[tuple[str, Any], ...], Tensor]]:
    """Every tensor in what a module gives, and the way to it: ("item", key) or ("attr", name)."""
    if isinstance(value, Tensor):
        yield (), value
        return
    steps: list[tuple[tuple[str, Any], Any]] = []
    if isinstance(value, Mapping):
        steps = [(("item", k), v) for k, v in value.items()]
    elif isinstance(value, tuple | list):
        steps = [(("item", i), v) for i, v in enumerate(value)]
    elif dataclasses.is_dataclass(value):
        steps = [(("attr", f.name), getattr(value, f.name)) for f in dataclasses.fields(value)]
    for step, inner in steps:
        for way, tensor in parts(inner):
            yield (step, *way), tensor
