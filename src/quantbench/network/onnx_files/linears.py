"""Products with a constant matrix, as exporters write linear layers of tokens, as layers again."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, fx, nn


def restore_linear(model: nn.Module) -> None:
    """``x @ W``, and a bias that is added behind it, become a linear layer, in place."""
    if not isinstance(model, fx.GraphModule):
        return
    for node in list(model.graph.nodes):
        weight = _weight(model, node)
        if weight is None:
            continue
        inputs, outputs = weight.shape
        end, bias = _bias(model, node, outputs)
        layer = nn.Linear(inputs, outputs, bias=bias is not None)
        layer.weight = nn.Parameter(weight.detach().T.contiguous())
        if bias is not None:
            layer.bias = nn.Parameter(bias.detach().clone())
        name = f"{node.target}_linear".replace(".", "_")
        model.add_submodule(name, layer.eval())
        with model.graph.inserting_before(end):
            made = model.graph.call_module(name, (node.args[0],))
        end.replace_all_uses_with(made)
        for gone in dict.fromkeys((end, node)):
            model.graph.erase_node(gone)
    model.graph.eliminate_dead_code()
    model.recompile()
    model.delete_all_unused_submodules()


def _weight(model: fx.GraphModule, node: fx.Node) -> Tensor | None:
    """The constant matrix (in, out) that a product of tensors has on its right."""
    if node.op != "call_module" or len(node.args) != 2:
        return None
    kind = type(model.get_submodule(str(node.target))).__name__
    held = _held(model, node.args[1]) if kind == "OnnxMatMul" else None
    return held if held is not None and held.dim() == 2 else None


def _bias(model: fx.GraphModule, node: fx.Node, width: int) -> tuple[fx.Node, Tensor | None]:
    """The sum of a product and a constant, if that is all that is made of it, and the constant."""
    for user, other in _readers(node):
        module = model.get_submodule(str(user.target)) if user.op == "call_module" else None
        word = getattr(getattr(module, "math_op_function", None), "__name__", "")
        held = _held(model, other) if word == "add" and len(node.users) == 1 else None
        if held is not None and held.shape == (width,):
            return user, held
    return node, None


def _readers(node: fx.Node) -> Iterator[tuple[fx.Node, object]]:
    """Calls of two arguments that take a value, with their other argument."""
    for user in node.users:
        if len(user.args) == 2:
            yield user, user.args[0] if user.args[1] is node else user.args[1]


def _held(model: fx.GraphModule, value: object) -> Tensor | None:
    """A float32 constant of the file."""
    if not isinstance(value, fx.Node) or value.op != "get_attr":
        return None
    owner, _, name = str(value.target).rpartition(".")
    held = getattr(model.get_submodule(owner), name)
    return held if isinstance(held, Tensor) and held.dtype == torch.float32 else None
