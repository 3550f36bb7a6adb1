"""Activation functions that exporters spell out, as torch's own modules again."""

from __future__ import annotations

from torch import fx, nn


def restore_silu(model: nn.Module) -> None:
    """``x * sigmoid(x)`` becomes SiLU, in place: a function of one tensor, hence a table."""
    if not isinstance(model, fx.GraphModule):
        return
    for node in list(model.graph.nodes):
        pair = _gated(model, node)
        if pair is None:
            continue
        x, gate = pair
        name = f"{gate.target}_silu".replace(".", "_")
        model.add_submodule(name, nn.SiLU())
        with model.graph.inserting_before(node):
            silu = model.graph.call_module(name, (x,))
        node.replace_all_uses_with(silu)
        model.graph.erase_node(node)
        model.graph.erase_node(gate)
    model.graph.lint()
    model.recompile()
    model.delete_all_unused_submodules()


def _gated(model: fx.GraphModule, node: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """``(x, gate)`` of a product of x with its own sigmoid, which nothing else reads."""
    if node.op != "call_module" or len(node.args) != 2:
        return None
    product = model.get_submodule(str(node.target))
    if getattr(product, "math_op_function", None) is None or "mul" not in _word(product):
        return None
    for x, gate in (node.args, node.args[::-1]):
        if not isinstance(x, fx.Node) or not isinstance(gate, fx.Node):
            continue
        sigmoid = gate.op == "call_module" and isinstance(
            model.get_submodule(str(gate.target)), nn.Sigmoid
        )
        if sigmoid and gate.args == (x,) and len(gate.users) == 1:
            return x, gate
    return None


def _word(product: nn.Module) -> str:
    return str(getattr(product.math_op_function, "__name__", ""))
