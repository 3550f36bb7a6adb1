"""Calls written down as nodes, in one list of all and in each container's own graph."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, fx, nn

from quantbench.network.graph.calls import Node, mapped, parts
from quantbench.network.graph.origins import Origins
from quantbench.network.graph.recording import Call, Container
from quantbench.network.graph.spelling import spelled, unwritable, within


class Writer:
    """What is written down so far.

    Attributes:
        origins: which call gave each tensor.
        containers: that began to run, in order.
        running: modules that run now, the innermost last.

    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.origins = Origins(model)
        self.containers: list[Container] = []
        self.running: list[Call] = []

    @property
    def here(self) -> Container | None:
        """The container whose ``forward`` runs; none inside a leaf."""
        return self.running[-1].container if self.running else None

    def function(
        self,
        inside: Container,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        out: Any,
    ) -> Node:
        """One function that gave tensors."""
        op, target = spelled(func)
        if op == "call_function" and unwritable(target):
            inside.obstacle = f"it calls {getattr(func, '__name__', func)}, which has no name"
        if target is getattr:  # a tensor's attribute that is itself a tensor, such as x.T
            args = (args[0], func.__self__.__name__)  # type: ignore[attr-defined]
        positional, named = self.local(inside, args), self.local(inside, dict(kwargs))
        name = target.strip("_") if op == "call_method" else None  # x += y is an add
        local = inside.graph.create_node(op, target, positional, named, name)
        path = f"{inside.path}.{local.name}" if inside.path else local.name
        inside.bring(local, out)
        return self.call((path, inside.path, local, op, target), args, kwargs, out)

    def call(
        self,
        where: tuple[str, str, fx.Node, str, Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        out: Any,
    ) -> Node:
        """Append a call, and one that takes it apart for each tensor of several."""
        node = Node(*where, self.linked(tuple(args)), self.linked(dict(kwargs)))
        self.origins.add(node, out)
        for way, tensor in parts(out):
            part, value = node, out
            for kind, key in way:
                function = operator.getitem if kind == "item" else getattr
                value = function(value, key)
                inside = self.here
                local = inside.locals.get(id(value), node.local) if inside else node.local
                item = Node(node.name, node.container, local, "call_function", function)
                item.args = (part, key)
                self.origins.add(item, value)
                part = item
            self.origins.came_from(tensor, part)
        return node

    def linked(self, value: Any) -> Any:
        """Arguments with nodes for tensors."""
        return mapped(value, lambda v: self.node(v) if isinstance(v, Tensor) else v)

    def node(self, tensor: Tensor) -> Node:
        """Where a tensor came from; an attribute, where no call gave it."""
        if tensor not in self.origins:
            inside = self.here
            assert inside is not None
            name = self.origins.attributes.get(id(tensor), "constant")
            local = self.local(inside, tensor)
            self.origins.add(Node(name, inside.path, local, "get_attr", tensor), tensor)
        return self.origins[tensor]

    def local(self, inside: Container, value: Any) -> Any:
        """Arguments with the container's own calls for tensors, in types that fx writes."""

        def one(v: Any) -> Any:
            if not isinstance(v, Tensor):
                return v
            if id(v) not in inside.locals:
                inside.locals[id(v)] = self.attribute(inside, v)
            return inside.locals[id(v)]

        return mapped(value, one)

    def attribute(self, inside: Container, tensor: Tensor) -> fx.Node:
        """A tensor that the container did not get as an argument: a weight, or a constant."""
        if tensor in self.origins and self.origins[tensor] in self.origins.depends:
            inside.obstacle = f"it takes {self.origins[tensor].name}, which was not given to it"
        name = self.origins.attributes.get(id(tensor), "")
        if name and within(name, inside.path):
            name = name[len(inside.path) + 1 :] if inside.path else name
        else:
            if not name and tensor not in self.origins:
                inside.unseen.append(tensor)
            name = f"_constant{len(inside.constants)}"
            inside.constants[name] = tensor
        self.origins.keep(tensor)
        local = inside.graph.get_attr(name)
        local.meta["tensor"] = tensor
        return local
