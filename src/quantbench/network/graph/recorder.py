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
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from quantbench.network.graph.calls import Node, leaves, mapped, parts
from quantbench.network.graph.origins import Origins
from quantbench.network.graph.recording import DEPENDS, Call, Container, Leaf, Recording
from quantbench.network.graph.spelling import (
    METADATA,
    distinct,
    in_place,
    spelled,
    unwritable,
    with_item,
    within,
)
from quantbench.network.graph.views import (
    View,
    assigned,
    viewed,
    views,
    with_view,
    writes_by_argument,
)
from quantbench.network.hooks import hooked
from quantbench.system.tensors import Inputs


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


class _Recorder(TorchFunctionMode):
    """Writes calls down."""

    def __init__(self, model: nn.Module, leaves: set[nn.Module]) -> None:
        super().__init__()
        self.operators = leaves
        self.origins = Origins(model)
        self.containers: list[Container] = []
        self.running: list[Call] = []
        self.views: dict[int, View] = {}
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
        self.name_twins((args, kwargs))
        self.renew((args, kwargs))
        # as they are now: a module may write into a list or dictionary that it is given
        args, kwargs = mapped(args, _itself), mapped(dict(kwargs), _itself)
        if inside_leaf or (self.running and module in self.operators):
            self.running.append(Call(name, None, args, kwargs, self.origins.stale((args, kwargs))))
            return
        container = Container(name, module)
        self.containers.append(container)
        with torch._C.DisableTorchFunction():  # noqa: SLF001 - no public way
            container.begin(args, kwargs)
            if not self.running:
                for i, node in enumerate(n for n in container.graph.nodes if "tensor" in n.meta):
                    entry = Node(f"input{i}" if i else "input", "", node, "placeholder", None)
                    self.origins.add(entry, node.meta["tensor"])
                    self.origins.depends.add(entry)
        self.running.append(Call(name, container, args, kwargs))

    def leave(self, module: nn.Module, out: Any) -> Any:
        """A module is through; what it gives is no tensor that it got."""
        self.name_twins(out)
        self.view_again(out)
        call, inside = self.running.pop(), self.here
        with torch._C.DisableTorchFunction():  # noqa: SLF001 - no public way
            if call.container is not None:
                call.container.graph.output(self.local(call.container, out))
            if inside is None:
                return out  # the network itself, or inside a leaf
            given, out = out, distinct(out, (call.args, call.kwargs))
            if out is not given and call.container is not None and given in self.origins:
                self.origins.came_from(out, self.origins[given])  # a container that gives its input
                self.origins.keep(out)
            path = next((p for p in self.paths[id(module)] if within(p, inside.path)), None)
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
        self.name_twins((args, kwargs))
        self.renew((args, kwargs))
        stale = self.origins.stale((args, kwargs))
        out = func(*args, **kwargs)
        if name == "__setitem__" and self.is_own(inside, args[0]):
            self.function(inside, with_item, args, kwargs, args[0])
            self.written(inside, args[0])
        elif any(True for _ in parts(out)):
            writes = in_place(name) or writes_by_argument(kwargs)
            if not writes:
                out = distinct(out, (args, kwargs))
            func, args, kwargs = assigned(func, args, kwargs)
            self.function(inside, func, args, kwargs, out).stale = stale
            with torch._C.DisableTorchFunction():  # noqa: SLF001 - no public way
                if writes:
                    self.written(inside, out)
                else:
                    self.views |= {id(t): view for t, view in views(func, args, kwargs, out)}
        elif self.origins.known((args, kwargs)):
            if out is not None and name not in METADATA:
                inside.values = True
                inside.obstacle = DEPENDS
            elif name == "__setitem__":
                inside.obstacle = "it writes into a part of a tensor"
        return out

    def is_own(self, inside: Container, tensor: Tensor) -> bool:
        """Whether a container made a tensor itself, so that nothing outside sees what it writes."""
        local = inside.locals.get(id(tensor))
        return local is not None and local.op != "get_attr"

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

    def name_twins(self, given: Any) -> None:
        """Write a call down for each tensor given that is another name of a known one."""
        if (inside := self.here) is None:
            return
        with torch._C.DisableTorchFunction():  # noqa: SLF001 - no public way
            for _, tensor in parts(given):
                if (twin := self.origins.twin(tensor)) is not None:
                    self.function(inside, Tensor.view_as, (twin, twin), {}, tensor)

    def renew(self, given: Any) -> None:
        """Take constants that were changed in place for what they are now."""
        if (inside := self.here) is None:
            return
        for tensor in self.origins.changed(given):
            with torch._C.DisableTorchFunction():  # noqa: SLF001 - no public way
                value = tensor.clone()
            name = f"_constant{len(inside.constants)}"
            inside.constants[name] = value
            inside.changed.append(value)
            local = inside.locals[id(value)] = inside.graph.get_attr(name)
            local.meta["tensor"] = value
            self.origins.add(Node("constant", inside.path, local, "get_attr", value), value)
            # a copy, for it may be changed again, in each pass
            self.function(inside, Tensor.clone, (value,), {}, tensor)
        self.view_again(given)

    def written(self, inside: Container, tensor: Any) -> None:
        """Make what a tensor is a view of anew, after a write into the tensor."""
        view = self.views.get(id(tensor))
        while view is not None and id(view.base) in inside.locals:
            self.function(inside, with_view, (view.base, tensor, *view.spelled()), {}, view.base)
            tensor, view = view.base, self.views.get(id(view.base))

    def view_again(self, given: Any) -> None:
        """View tensors anew that were changed by a write into what they are views of."""
        if (inside := self.here) is None:
            return
        for tensor in leaves(given):
            if isinstance(tensor, Tensor) and self.origins.is_stale(tensor):
                view = self.views.get(id(tensor))
                if view is None or id(view.base) not in inside.locals:
                    continue
                self.view_again(view.base)
                if not self.origins.is_stale(view.base):
                    self.function(inside, viewed, (view.base, *view.spelled()), {}, tensor)

    def end(self, output: Any) -> Recording:
        """The recording, after the pass."""
        root = self.containers[0]
        local = next(n for n in reversed(root.graph.nodes) if n.op == "output")
        self.running = [Call("", root, (), {})]
        end = Node("output", "", local, "output", None, (self.linked(output),))
        self.origins.add(end, output)
        for node in self.origins.nodes:
            node.constant = node not in self.origins.depends
        for node, value in self.origins.were.items():
            node.example = value  # it may have been changed in place since
        return Recording(self.origins.nodes, self.containers, output)


def _itself(value: Any) -> Any:
    return value
