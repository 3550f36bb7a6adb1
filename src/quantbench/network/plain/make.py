"""Layers and batch norms that are more than torch's own, as torch's own and what is around them.

A subclass with a forward of its own (padding, scaled weights, an activation inside), a hook, a
patched forward, a parametrization: a method that took such a module for a plain layer would lose
what it does. What it does in one real pass is recorded, and the module becomes a small graph in
which the convolution, product, table or normalization is a plain child. A weight that is computed
from parameters alone is computed once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

from quantbench.network.graph.forward_pass import is_operator, recorded, rewritten, same_calls
from quantbench.network.graph.recording import Container
from quantbench.network.hooks import has_hooks
from quantbench.network.layers import TRANSPOSED, TransposedConv
from quantbench.network.plain.attention import make_attention_plain
from quantbench.network.plain.makers import MAKERS
from quantbench.network.plain.parametrized import without_parametrizations
from quantbench.system.tensors import Inputs

BatchNorm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@torch.no_grad()
def make_plain(model: nn.Module, sample: Inputs, kinds: tuple[type[nn.Module], ...]) -> list[str]:
    """Replace modules that do more than a layer by graphs with a plain layer in them.

    Args:
        model: changed in place.
        sample: its inputs.
        kinds: layers to look at, beside batch norms.

    Returns:
        Names of the modules that were replaced.

    Raises:
        Unsupported: the recorded call of such a module cannot stand for it.

    """
    for module in model.modules():
        without_parametrizations(module)
    make_attention_plain(model)
    looked_at = (*kinds, *BatchNorm, *(TRANSPOSED if TransposedConv in kinds else ()))
    # a subclass that only sets its arguments becomes torch's own, too
    odd = {
        m
        for m in model.modules()
        if isinstance(m, looked_at) and not (is_plain(m) and is_operator(m))
    }
    if not odd:
        return []
    recording = recorded(model, sample, lambda m: m not in odd and is_operator(m))
    replaced: dict[str, Container] = {}
    for container in recording.containers:
        if container.module in odd and container.path:
            first = replaced.setdefault(container.path, container)
            if not same_calls(first, container):
                first.obstacle = "it does one thing in one call and another in the next"
    for path, container in replaced.items():
        if made := _plain_inside(container):
            model.set_submodule(path, made)
    return list(replaced)


def is_plain(module: nn.Module) -> bool:
    """Whether a layer or batch norm does what torch's own of its kind does, and nothing else.

    Of transposed convolutions ours is the plain one, see ``network.layers``.
    """
    if isinstance(module, TransposedConv):
        return not has_hooks(module)
    if isinstance(module, TRANSPOSED):
        return False
    base = next(t for t in type(module).__mro__ if t.__module__.startswith("torch.nn.modules"))
    overridden = any(
        getattr(type(module), name, None) is not getattr(base, name, None)
        for name in ("forward", "_conv_forward", "__call__")
    )
    own = overridden or "forward" in vars(module) or has_hooks(module)
    rows = getattr(module, "max_norm", None) is not None
    return not (own or rows or getattr(module, "padding_mode", "zeros") != "zeros")


def _plain_inside(container: Container) -> nn.Module | None:
    """The module as a graph with plain children; ``None`` where nothing in it is a layer."""
    added: dict[str, nn.Module] = {}
    for node in list(container.graph.nodes):
        making = MAKERS.get(getattr(node.target, "__name__", ""))
        if node.op != "call_function" or making is None:
            continue
        names, make = making
        given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
        if not isinstance(given.get("input"), fx.Node) or "tensor" not in given["input"].meta:
            continue
        held = {k: _constant(v) for k, v in given.items() if k != "input"}
        made = make(held | {"rank": given["input"].meta["tensor"].dim()})
        if made is None:
            continue
        with container.graph.inserting_before(node):
            call = container.graph.call_module(node.name, (given["input"],))
        node.replace_all_uses_with(call)
        _erase(node)
        added[node.name] = made.eval().requires_grad_(requires_grad=False)
    if not added:
        return None
    if alone := _alone(container, added):
        return alone
    for name, module in added.items():
        container.module.add_module(name, module)
    try:
        return rewritten(container)
    finally:
        for name in added:
            delattr(container.module, name)


def _alone(container: Container, added: Mapping[str, nn.Module]) -> nn.Module | None:
    """The layer that is all there is in a module of one argument: it can have the module's name."""
    if len(added) != 1 or container.obstacle or container.arguments != 1:
        return None
    first, *rest = (n for n in container.graph.nodes if n.op != "placeholder" or n.users)
    if len(rest) != 2 or first.op != "placeholder" or rest[0].op != "call_module":
        return None
    call, end = rest
    return added[str(call.target)] if call.args == (first,) and end.args == (call,) else None


def _erase(node: fx.Node) -> None:
    """Remove a call, and those before it that nothing else reads: what computed its weight."""
    before = [n for n in node.all_input_nodes if n.op != "placeholder"]
    node.graph.erase_node(node)
    for other in before:
        if not other.users and other.graph is node.graph:
            _erase(other)


def _constant(value: Any) -> Any:
    """An argument, with the value of a tensor that no input went into; others become ``...``."""
    if not isinstance(value, fx.Node):
        return value
    todo, seen = [value], {value}
    while todo:
        node = todo.pop()
        if node.op not in ("get_attr", "call_function", "call_method"):
            return ...
        todo += [n for n in node.all_input_nodes if n not in seen]
        seen.update(node.all_input_nodes)
    return value.meta.get("tensor", ...)
