"""One real forward pass, as a graph of calls.

Nothing is traced symbolically: a network is run, and every call of a torch function or of a leaf
module is written down while it happens, with the tensors that it took and gave. So optional
arguments, flags, branches on shapes and loops are what they were in that call. Each module that is
no leaf (a container) gets a torch.fx graph of its own call, whose names and order are its own, so
that the container can be rewritten by itself.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from quantbench.network.graph.calls import Node, leaves, mapped, parts
from quantbench.network.graph.recording import Container, Leaf, Recording
from quantbench.network.hooks import hooked
from quantbench.system.tensors import Inputs

# methods that take a tensor's values out of the graph
_VALUES = frozenset(
    [
        *("__bool__", "__int__", "__float__", "__index__", "__complex__", "item", "tolist"),
        *("numpy", "equal", "allclose"),
    ]
)


@torch.no_grad()
def record(model: nn.Module, inputs: Inputs, leaf: Leaf) -> Recording:
    """Run a network once and write down every call.

    Args:
        model: in evaluation mode; not changed.
        inputs: its positional arguments.
        leaf: whether a module is one operator, inside which nothing is looked at.

    """
    # before there are hooks of ours: a module with hooks may be no leaf
    recorder = _Recorder(model, {m for m in model.modules() if leaf(m)})
    handles = [
        handle
        for name, module in model.named_modules()
        for handle in (
            module.register_forward_pre_hook(
                lambda m, args, kwargs, n=name: recorder.enter(n, m, args, kwargs),
                prepend=True,  # so that hooks of the network's own count as part of the module
                with_kwargs=True,
            ),
            module.register_forward_hook(lambda m, _, out: recorder.leave(m, out)),  # the last
        )
    ]
    given = tuple(t.clone() for t in inputs)
    with hooked(*handles), recorder:
        output = model(*given)
    return recorder.end(output)


@dataclass
class _Call:
    """A module that is running: a container, or a leaf with the arguments that it got."""

    name: str
    container: Container | None
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    stale: str = ""


class _Recorder(TorchFunctionMode):
    """Writes calls down."""

    def __init__(self, model: nn.Module, leaves: set[nn.Module]) -> None:
        super().__init__()
        self.operators = leaves
        self.nodes: list[Node] = []
        self.names: dict[str, int] = {}
        self.containers: list[Container] = []
        self.running: list[_Call] = []
        self.values: dict[int, Node] = {}  # by the tensor's identity
        self.alive: list[Any] = []  # keeps identities unique
        self.depends: set[Node] = set()  # on the network's inputs
        held = (*model.named_parameters(), *model.named_buffers())
        self.attributes = {id(tensor): name for name, tensor in held}
        every = model.named_modules(remove_duplicate=False)
        self.paths: dict[int, list[str]] = {}
        for path, module in every:
            self.paths.setdefault(id(module), []).append(path)

    @property
    def here(self) -> Container | None:
        """The container whose ``forward`` runs; none inside a leaf."""
        return self.running[-1].container if self.running else None

    def enter(
        self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """A module starts to run."""
        inside_leaf = bool(self.running) and self.here is None
        if inside_leaf or (self.running and module in self.operators):
            self.running.append(_Call(name, None, args, kwargs, self.stale((args, kwargs))))
            return
        container = Container(name, module)
        self.containers.append(container)
        with torch._C.DisableTorchFunction():  # noqa: SLF001 - no public way
            container.begin(args, kwargs)
            if not self.running:
                for i, node in enumerate(n for n in container.graph.nodes if "tensor" in n.meta):
                    entry = Node(f"input{i}" if i else "input", "", node, "placeholder", None)
                    self.add(entry, node.meta["tensor"])
                    self.depends.add(entry)
        self.running.append(_Call(name, container, args, kwargs))

    def leave(self, module: nn.Module, out: Any) -> Any:
        """A module is through; what it gives is no tensor that it got."""
        call, inside = self.running.pop(), self.here
        with torch._C.DisableTorchFunction():  # noqa: SLF001 - no public way
            if call.container is not None:
                call.container.graph.output(self.local(call.container, out))
            if inside is None:
                return out  # the network itself, or inside a leaf
            out = _distinct(out, (call.args, call.kwargs))
            path = next((p for p in self.paths[id(module)] if _within(p, inside.path)), None)
            if path is None:
                inside.obstacle = f"it calls {call.name}, which is not a module of its own"
                path = call.name
            target = path[len(inside.path) + 1 :] if inside.path else path
            args, kwargs = (self.local(inside, v) for v in (call.args, dict(call.kwargs)))
            local = inside.graph.call_module(target, args, kwargs)
            inside.bring(local, out)
            if call.container is None:
                where = (path, inside.path, local, "call_module", module)
                node = self.call(where, call.args, call.kwargs, out)
                node.stale = call.stale
            return out

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a function and write it down if it gives tensors."""
        kwargs = kwargs or {}
        inside, name = self.here, getattr(func, "__name__", "")
        if inside is None:
            return func(*args, **kwargs)
        stale = self.stale((args, kwargs))
        out = func(*args, **kwargs)
        if any(True for _ in parts(out)):
            if not _in_place(name):
                out = _distinct(out, (args, kwargs))
            self.function(inside, func, args, kwargs, out).stale = stale
        elif self.known((args, kwargs)):
            if name in _VALUES:
                inside.values = True
                inside.obstacle = "what it does depends on the values of a tensor"
            elif name == "__setitem__":
                inside.obstacle = "it writes into a part of a tensor"
        return out

    def function(
        self,
        inside: Container,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        out: Any,
    ) -> Node:
        """One function that gave tensors."""
        op, target = _spelled(func)
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
        self.add(node, out)
        if any(before in self.depends for before in node.inputs):
            self.depends.add(node)
        for way, tensor in parts(out):
            part, value = node, out
            for kind, key in way:
                function = operator.getitem if kind == "item" else getattr
                value = function(value, key)
                inside = self.here
                local = inside.locals.get(id(value), node.local) if inside else node.local
                item = Node(node.name, node.container, local, "call_function", function)
                item.args = (part, key)
                self.add(item, value)
                if part in self.depends:
                    self.depends.add(item)
                part = item
            self.values[id(tensor)] = part
        return node

    def add(self, node: Node, example: Any) -> None:
        """Append a node under a name that is still free."""
        count = self.names[node.name] = self.names.get(node.name, 0) + 1
        node.name += f":{count}" if count > 1 else ""
        node.example, node.version = example, _version(example)
        for before in node.inputs:
            before.users.append(node)
        self.nodes.append(node)
        self.alive.append(example)
        if isinstance(example, Tensor):
            self.values[id(example)] = node

    def linked(self, value: Any) -> Any:
        """Arguments with nodes for tensors."""
        return mapped(value, lambda v: self.node(v) if isinstance(v, Tensor) else v)

    def node(self, tensor: Tensor) -> Node:
        """Where a tensor came from; an attribute, where no call gave it."""
        if id(tensor) not in self.values:
            inside = self.here
            assert inside is not None
            name = self.attributes.get(id(tensor), "constant")
            local = self.local(inside, tensor)
            self.add(Node(name, inside.path, local, "get_attr", tensor), tensor)
        return self.values[id(tensor)]

    def stale(self, given: Any) -> str:
        """The name of a tensor among arguments that was changed in place after it was given."""
        nodes = (self.values.get(id(v)) for v in leaves(given) if isinstance(v, Tensor))
        return next((n.name for n in nodes if n and _version(n.example) != n.version), "")

    def known(self, value: Any) -> bool:
        """Whether a tensor in ``value`` depends on the network's inputs."""
        tensors = (v for v in leaves(value) if isinstance(v, Tensor))
        return any(self.values.get(id(t)) in self.depends for t in tensors)

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
        node = self.values.get(id(tensor))
        if node is not None and node in self.depends:
            inside.obstacle = f"it takes {node.name}, which was not given to it"
        name = self.attributes.get(id(tensor), "")
        if name and _within(name, inside.path):
            name = name[len(inside.path) + 1 :] if inside.path else name
        else:
            name = f"_constant{len(inside.constants)}"
            inside.constants[name] = tensor
        self.alive.append(tensor)
        local = inside.graph.get_attr(name)
        local.meta["tensor"] = tensor
        return local

    def end(self, output: Any) -> Recording:
        """The recording, after the pass."""
        root = self.containers[0]
        local = next(n for n in reversed(root.graph.nodes) if n.op == "output")
        self.running = [_Call("", root, (), {})]
        end = Node("output", "", local, "output", None, (self.linked(output),))
        self.add(end, output)
        return Recording(self.nodes, self.containers, output)


def _spelled(func: Callable[..., Any]) -> tuple[str, Any]:
    """The word that fx has for a call, and its target."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        return "call_function", getattr
    if name == "__getitem__":
        return "call_function", operator.getitem
    return ("call_method", name) if getattr(Tensor, name, None) is func else ("call_function", func)


def _in_place(function: str) -> bool:
    """Whether a function changes its first argument: ``add_`` does, ``__getitem__`` does not."""
    return function.startswith("__i") if function.endswith("__") else function.endswith("_")


def _distinct(out: Any, given: Any) -> Any:
    """A result that is one of the arguments, as a tensor of its own that shares the memory.

    A quantizer that is off gives what it got; who reads the tensor before it, does not read it.
    """
    got = {id(v) for v in leaves(given) if isinstance(v, Tensor)}
    with torch._C.DisableTorchFunction():  # noqa: SLF001 - no public way
        return out.view_as(out) if isinstance(out, Tensor) and id(out) in got else out


def _version(value: Any) -> int:
    """How often a tensor was changed in place; views count with what they view."""
    return value._version if isinstance(value, Tensor) else 0  # noqa: SLF001 - no public way


def _within(path: str, container: str) -> bool:
    return not container or path.startswith(f"{container}.")
