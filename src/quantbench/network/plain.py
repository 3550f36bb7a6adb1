"""Layers and batch norms that are more than torch's own, as torch's own and what is around them.

A subclass with a forward of its own (padding, scaled weights, an activation inside), a hook, a
patched forward, a parametrization: a method that took such a module for a plain layer would lose
what it does. What it does in one real pass is recorded, and the module becomes a small graph in
which the convolution, product, table or normalization is a plain child. A weight that is computed
from parameters alone is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from quantbench.network.graph.forward_pass import is_operator, recorded, rewritten, same_calls
from quantbench.network.graph.recording import Container
from quantbench.network.hooks import has_hooks
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
        _without_parametrizations(module)
    odd = [m for m in model.modules() if isinstance(m, (*kinds, *BatchNorm)) and not is_plain(m)]
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
    """Whether a layer or batch norm does what torch's own of its kind does, and nothing else."""
    base = next(t for t in type(module).__mro__ if t.__module__.startswith("torch.nn.modules"))
    overridden = any(
        getattr(type(module), name, None) is not getattr(base, name, None)
        for name in ("forward", "_conv_forward", "__call__")
    )
    own = overridden or "forward" in vars(module) or has_hooks(module)
    rows = getattr(module, "max_norm", None) is not None
    return not (own or rows or getattr(module, "padding_mode", "zeros") != "zeros")


def _without_parametrizations(module: nn.Module) -> None:
    """Weights that are computed from others (weight_norm, spectral_norm, masks), as they are now.

    The older forms of these are hooks that write the weight before each call. torch's own removal
    of the newer ones changes the class, which copies of the module share.
    """
    if parametrize.is_parametrized(module):
        names = list(module.parametrizations)  # type: ignore[arg-type]
        values = {name: getattr(module, name).detach().clone() for name in names}
        module.__class__ = type(module).__bases__[0]
        del module.parametrizations
        for name, value in values.items():
            module.register_parameter(name, nn.Parameter(value, requires_grad=False))
    for key, hook in list(module._forward_pre_hooks.items()):  # noqa: SLF001 - no public way
        name = getattr(hook, "name", getattr(hook, "_tensor_name", None))
        if type(hook).__module__.startswith("torch.nn.utils.") and isinstance(name, str):
            del module._forward_pre_hooks[key]  # noqa: SLF001
            value = getattr(module, name).detach().clone()
            delattr(module, name)
            for part in ("orig", "mask", "u", "v", "g"):
                module._parameters.pop(f"{name}_{part}", None)  # noqa: SLF001
                module._buffers.pop(f"{name}_{part}", None)  # noqa: SLF001
            module.register_parameter(name, nn.Parameter(value, requires_grad=False))


def _plain_inside(container: Container) -> nn.Module | None:
    """The module as a graph with plain children; ``None`` where nothing in it is a layer."""
    added: dict[str, nn.Module] = {}
    for node in list(container.graph.nodes):
        making = _MAKERS.get(getattr(node.target, "__name__", ""))
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
    for name, module in added.items():
        container.module.add_module(name, module)
    try:
        return rewritten(container)
    finally:
        for name in added:
            delattr(container.module, name)


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


def _conv(given: Mapping[str, Any]) -> nn.Module | None:
    weight, bias = given["weight"], given.get("bias")
    if weight is ... or bias is ...:
        return None
    groups = int(given.get("groups", 1))
    out, each, *kernel = weight.shape
    geometry = {k: given[k] for k in ("stride", "padding", "dilation") if k in given}
    has = bias is not None
    made = nn.Conv2d(each * groups, out, tuple(kernel), groups=groups, bias=has, **geometry)
    return _filled(made, weight, bias)


def _linear(given: Mapping[str, Any]) -> nn.Module | None:
    weight, bias = given["weight"], given.get("bias")
    if weight is ... or bias is ...:
        return None
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    return _filled(made, weight, bias)


def _embedding(given: Mapping[str, Any]) -> nn.Module | None:
    weight = given["weight"]
    if weight is ...:
        return None
    if (limit := given.get("max_norm")) is not None:  # rows are scaled when they are first read
        kind = float(given.get("norm_type", 2.0))
        rows = torch.arange(len(weight), device=weight.device)
        weight = torch.embedding_renorm_(weight.detach().clone(), rows, float(limit), kind)
    return _filled(nn.Embedding(*weight.shape), weight, None)


def _norm(given: Mapping[str, Any]) -> nn.Module | None:
    mean, var = given.get("running_mean"), given.get("running_var")
    weight, bias = given.get("weight"), given.get("bias")
    if not isinstance(mean, Tensor) or not isinstance(var, Tensor) or given.get("training"):
        return None
    if weight is ... or bias is ...:
        return None
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 5: nn.BatchNorm3d}.get(given["rank"])
    made = (kind or nn.BatchNorm2d)(
        len(mean), eps=given.get("eps", 1e-5), affine=weight is not None
    )
    made.running_mean, made.running_var = mean.detach().clone(), var.detach().clone()
    return made if weight is None else _filled(made, weight, bias)


def _filled(module: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    vars(module)["_parameters"]["weight"] = nn.Parameter(weight.detach().clone())
    if bias is not None:
        vars(module)["_parameters"]["bias"] = nn.Parameter(bias.detach().clone())
    return module


_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_NORM = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
_TABLE = ("input", "weight", "padding_idx", "max_norm", "norm_type")

_MAKERS: dict[str, tuple[tuple[str, ...], Callable[[Mapping[str, Any]], nn.Module | None]]] = {
    "conv2d": (_CONV, _conv),
    "linear": (("input", "weight", "bias"), _linear),
    "embedding": (_TABLE, _embedding),
    F.batch_norm.__name__: (_NORM, _norm),
}
