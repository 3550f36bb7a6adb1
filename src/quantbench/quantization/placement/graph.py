"""A network's operators in execution order, each with its inputs, users and container.

Every container module is traced on its own by torch.fx with its children as leaves, and the graphs
are joined while a sample runs through them. So module names, blocks and their call signatures
survive, and shapes are known.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from quantbench.errors import Unsupported
from quantbench.network.activation_functions import ChannelClamp
from quantbench.quantization.layers import ActQuant, QuantLayer


@dataclass(eq=False)
class Node:
    """One call of one operator.

    Attributes:
        name: unique; the module's name, or its container's and fx's name for a function.
        container: name of the module whose ``forward`` makes the call.
        local: the call in that container's own graph.
        op: fx's word for what is called: ``placeholder``, ``call_module``, ``call_function``,
            ``call_method``, ``get_attr`` or ``output``.
        target: the module, the function, the method's name, or the attribute's value.
        args: positional arguments, in which other nodes stand for their values.
        kwargs: keyword arguments.
        example: what it gives for the sample.
        version: how often that tensor had been changed in place by then.
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
    users: list[Node] = field(default_factory=list)

    @property
    def inputs(self) -> list[Node]:
        """The nodes among its arguments."""
        found: list[Node] = []
        _map((self.args, tuple(self.kwargs.values())), found.append)
        return found

    def run(self, values: Mapping[Node, Any]) -> Any:
        """Its value, given those of its inputs."""
        args = _map(self.args, values.__getitem__)
        kwargs = _map(dict(self.kwargs), values.__getitem__)
        match self.op:
            case "get_attr":
                return self.target
            case "call_method":
                return getattr(args[0], self.target)(*args[1:], **kwargs)
            case "output":
                return args[0]
        return self.target(*args, **kwargs)


class _Tracer(fx.Tracer):
    """Traces one container; every child is a leaf."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002 - fx's signature
        """Never go inside a child."""
        return True


@torch.no_grad()
def flatten(model: nn.Module, sample: Tensor) -> list[Node]:
    """All calls of one forward pass on ``sample`` (N, ...).

    The network's input comes first, its output last.

    Raises:
        Unsupported: a module whose ``forward`` cannot be traced, by name.

    """
    join = _Join()
    entry = next(n for n in join.graph("", model).nodes if n.op == "placeholder")
    given = join.add(Node("input", "", entry, "placeholder", None), sample.clone())
    result = join.walk("", model, (given,), {})
    if not isinstance(result, Node):
        raise Unsupported(f"the network returns {type(result).__name__}, not one tensor")
    join.add(Node("output", "", result.local, "output", None, (result,)), result.example)
    return join.nodes


class _Join:
    """Runs containers' graphs into each other."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.names: dict[str, int] = {}
        self.graphs: dict[nn.Module, fx.Graph] = {}

    def add(self, node: Node, example: Any) -> Node:
        """Append a node under a name that is still free."""
        count = self.names[node.name] = self.names.get(node.name, 0) + 1
        node.name += f":{count}" if count > 1 else ""
        node.example, node.version = example, _version(example)
        for before in node.inputs:
            before.users.append(node)
        self.nodes.append(node)
        return node

    def walk(
        self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """One call of a container: its result, as nodes."""
        graph = self.graph(path, module)
        bound = _bind(module, args, kwargs)
        env: dict[fx.Node, Any] = {}
        for local in graph.nodes:
            inputs = fx.node.map_arg(local.args, env.__getitem__)
            named = fx.node.map_arg(local.kwargs, env.__getitem__)
            if local.op == "placeholder":
                env[local] = next(bound)
            elif local.op == "output":
                return inputs[0]
            elif local.op == "call_module" and not is_leaf(
                child := module.get_submodule(local.target)
            ):
                env[local] = self.walk(_join(path, local.target), child, inputs, named)
            else:
                env[local] = self.call(path, module, local, inputs, named)
        return None

    def call(self, path: str, module: nn.Module, local: fx.Node, args: Any, kwargs: Any) -> Any:
        """One operator that is not a container."""
        name, target = _join(path, local.name), local.target
        if local.op == "call_module":
            assert isinstance(target, str)
            name, target = _join(path, target), module.get_submodule(target)
        elif local.op == "get_attr":
            assert isinstance(target, str)
            target = operator.attrgetter(target)(module)
        elif (
            local.op == "call_function"
            and target is operator.getitem
            and not isinstance(args[0], Node)
        ):
            return args[0][args[1]]  # an element of a container's several inputs or results
        node = Node(name, path, local, local.op, target, tuple(args), dict(kwargs))
        if stale := [n.name for n in node.inputs if _version(n.example) != n.version]:
            raise Unsupported(
                f"{name} reads {stale[0]} after it was changed in place: "
                "write that without changing it"
            )
        return self.add(node, node.run({n: n.example for n in node.inputs}))

    def graph(self, path: str, module: nn.Module) -> fx.Graph:
        """The container's own graph; a module that has been rewritten keeps the one it has."""
        if isinstance(module, fx.GraphModule):
            return module.graph
        if module not in self.graphs:
            try:
                self.graphs[module] = _Tracer().trace(module)
            except Exception as e:
                where = f"{path or 'the network'} ({type(module).__name__})"
                raise Unsupported(
                    f"{where} cannot be traced: {e}; its forward must not depend on values"
                ) from e
        return self.graphs[module]


def _version(value: Any) -> int:
    """How often a tensor was changed in place; views count with what they view."""
    return value._version if isinstance(value, Tensor) else 0  # noqa: SLF001 - no public way


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is one operator, not a container of several."""
    if isinstance(module, QuantLayer | ActQuant | ChannelClamp):
        return True
    container = isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict | fx.GraphModule)
    return type(module).__module__.startswith("torch.nn.") and not container


def _bind(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Any]:
    """Arguments in the order of the traced graph's placeholders."""
    bound = inspect.signature(module.forward).bind(*args, **kwargs)
    bound.apply_defaults()
    return iter(bound.arguments.values())


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _map(value: Any, function: Callable[[Node], Any]) -> Any:
    """``value`` with every node in it replaced."""
    if isinstance(value, Node):
        return function(value)
    if isinstance(value, tuple | list):
        return type(value)(_map(v, function) for v in value)
    if isinstance(value, dict):
        return {k: _map(v, function) for k, v in value.items()}
    if isinstance(value, slice):
        return slice(*(_map(v, function) for v in (value.start, value.stop, value.step)))
    return value
