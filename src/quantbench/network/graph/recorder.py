"""One real forward pass, as a graph of calls.

Nothing is traced symbolically: a network is run, and every call of a torch function or of a leaf
module is written down while it happens, with the tensors that it took and gave. So optional
arguments, flags, branches on shapes and loops are what they were in that call. Each module that is
no leaf (a container) gets a torch.fx graph of its own call, whose names and order are its own, so
that the container can be rewritten by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from quantbench.network.graph.calls import Node, mapped, parts
from quantbench.network.graph.memory import Memory
from quantbench.network.graph.recording import DEPENDS, Call, Container, Leaf, Recording
from quantbench.network.graph.spelling import METADATA, distinct, in_place, with_item, within
from quantbench.network.graph.views import assigned, views, writes_by_argument
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


class _Recorder(Memory, TorchFunctionMode):
    """Sees what is called, and writes it down."""

    def __init__(self, model: nn.Module, leaves: set[nn.Module]) -> None:
        super().__init__(model)
        self.operators = leaves
        every = model.named_modules(remove_duplicate=False)
        self.paths: dict[int, list[str]] = {}
        for path, module in every:
            self.paths.setdefault(id(module), []).append(path)

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
