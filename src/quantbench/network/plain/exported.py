"""A graph of torch.export as a network of torch's own layers and functions.

An exported program calls ``torch.ops.aten`` functions on weights that lie in modules without a
forward. Each such product or batch norm becomes a layer under its weight's name, and each function
the public one that it came from.
"""

from __future__ import annotations

import copy
from typing import Any, TypeGuard

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from quantbench.errors import BadInput
from quantbench.network.graph.calls import parts
from quantbench.network.layers import LAYERS
from quantbench.network.plain.makers import MAKERS
from quantbench.system.tensors import Inputs

_NORM = ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps")

_TENSORS = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}

_DECOMPOSED = {"convolution", "addmm", "_native_batch_norm_legit_no_training"}

_LAYERS = (*LAYERS, nn.Embedding, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

_EMPTY = nn.Module.forward

_UNREAD = (
    "whose functions are not understood as public ones: give the module that it was exported from"
)

_NOTHING = ("dropout", "dropout_", "feature_dropout", "alpha_dropout")  # not in training


def is_exported(model: nn.Module) -> TypeGuard[fx.GraphModule]:
    """Whether a network is what ``ExportedProgram.module()`` gives."""
    return isinstance(model, fx.GraphModule) and any(_aten(n) for n in model.graph.nodes)


@torch.no_grad()
def from_exported(model: fx.GraphModule, inputs: Inputs, name: str) -> fx.GraphModule:
    """The network with layers in it, without the checks of its inputs' sizes.

    Args:
        model: for which ``is_exported`` holds.
        inputs: to compare on.
        name: what messages call it.

    Raises:
        BadInput: what is made of it does not run, or gives something else.

    """
    shapes = ", ".join(str(tuple(t.shape)) for t in inputs)
    try:
        right = model(*(t.clone() for t in inputs))
    except Exception as e:
        raise BadInput(
            f"{name} is an exported program that does not run on its sample of shapes {shapes}: "
            f"{type(e).__name__}: {e}"
        ) from e
    if any(_trains(n) for n in model.graph.nodes):
        raise BadInput(f"{name} was exported in training mode: export model.eval()")
    called = {_aten(n) for n in model.graph.nodes}
    if found := sorted(called & _DECOMPOSED):
        raise BadInput(
            f"{name} is an exported program whose layers were taken apart into "
            f"{', '.join(found)}: give it as it was before run_decompositions"
        )
    try:
        made = _made(model)
        found = made(*(t.clone() for t in inputs))
    except Exception as e:
        raise BadInput(f"{name} is an exported program {_UNREAD} ({e})") from e
    alike = zip((t for _, t in parts(found)), (t for _, t in parts(right)), strict=True)
    if not all(torch.allclose(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max())) for a, b in alike):
        raise BadInput(f"{name} is an exported program {_UNREAD}")
    return made


def _made(model: fx.GraphModule) -> fx.GraphModule:
    """The same, not compared."""
    made = copy.deepcopy(model)
    graph = made.graph
    for node in list(graph.nodes):
        if node.op == "call_module" and not node.users:  # guards of sizes
            graph.erase_node(node)
        elif name := _aten(node):
            if name.startswith("_assert"):
                graph.erase_node(node)
            elif name in _NOTHING and not node.args[2]:
                node.replace_all_uses_with(node.args[0])
                graph.erase_node(node)
            elif not _as_layer(node, name, made):
                _as_public(node, name)
    graph.eliminate_dead_code()
    made.delete_all_unused_submodules()
    made.recompile()
    return made


def _trains(node: fx.Node) -> bool:
    """Whether a node is dropout or batch norm in training."""
    name = _aten(node)
    flag = 2 if name in _NOTHING else 5 if name == "batch_norm" else None
    return flag is not None and bool(node.args[flag])


def _aten(node: fx.Node) -> str:
    """Name of the ``torch.ops.aten`` function that a node calls; empty for every other."""
    overload = isinstance(node.target, torch._ops.OpOverload)  # noqa: SLF001 - no public name
    return str(node.target._opname) if overload else ""  # type: ignore[union-attr] # noqa: SLF001


def _as_layer(node: fx.Node, name: str, root: nn.Module) -> bool:
    """Put a layer in the place of a function with constant weights; whether it was one."""
    if name not in MAKERS:
        return False
    names, make = MAKERS[name]
    if name == "batch_norm":
        names = _NORM
    elif name == "embedding":
        names = ("weight", "input")
    nodes = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    entry, weight = nodes["input"], nodes.get("weight")
    given = {k: _held(v, root) for k, v in nodes.items() if k != "input"}
    if ... in given.values() or not isinstance(weight, fx.Node):
        return False
    path, _, own = str(weight.target).rpartition(".")
    taken = isinstance(_at(root, path), _LAYERS)  # by another use
    if not path or own != "weight" or not (taken or _holds_a_layer(_at(root, path))):
        path = f"{weight.target}_layer"
    rank = node.meta["val"].dim() if "val" in node.meta else 4
    layer = make(given | {"rank": rank})
    if layer is None:
        return False
    used = path
    while not _holds_a_layer(_at(root, used)):
        used = f"{path}_use{int(used.rpartition('_use')[2]) + 1 if used != path else 2}"
    root.set_submodule(used, layer.eval())
    with node.graph.inserting_before(node):
        call = node.graph.call_module(used, (entry,))
    node.replace_all_uses_with(call)
    node.graph.erase_node(node)
    return True


def _held(value: Any, root: nn.Module) -> Any:
    """A constant argument; ``...`` for one that is computed."""
    if not isinstance(value, fx.Node):
        return value
    if value.op != "get_attr":
        return ...
    found: Any = root
    for part in str(value.target).split("."):
        found = getattr(found, part)
    return found


def _holds_a_layer(module: nn.Module | None) -> bool:
    """Whether a layer may take a module's place: it has nothing but such a layer's tensors."""
    if module is None:
        return True
    if type(module).forward is not _EMPTY:
        return False
    held = {*dict(module.named_parameters()), *dict(module.named_buffers())}
    return held <= _TENSORS


def _at(root: nn.Module, path: str) -> nn.Module | None:
    try:
        return root.get_submodule(path)
    except AttributeError:
        return None


def _as_public(node: fx.Node, name: str) -> None:
    """The public function or method of a name, which takes the same arguments."""
    given = node.args[0] if node.args else None
    if name.endswith("_") and isinstance(given, fx.Node) and len(given.users) == 1:
        name = name[:-1]  # nothing else reads what it would overwrite
    if name == "sym_size":
        node.op, node.target = "call_method", "size"
    elif name in ("max_pool2d", "pad") or not hasattr(torch, name):
        if (function := getattr(F, name, None)) is not None:
            node.target = function
        elif hasattr(Tensor, name):
            node.op, node.target = "call_method", name
    else:
        node.target = getattr(torch, name)
