"""What one forward pass tells: layers in execution order, what follows each of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from quantbench.network.graph.calls import Node
from quantbench.network.graph.recording import Recording
from quantbench.network.layers import CONVOLUTIONS, TransposedConv

_PRODUCTS = (
    *("linear", "conv", "matmul", "mm", "einsum", "attention", "transformer"),
    *("rnn", "lstm", "gru"),
)

_CLAMPS = frozenset(["relu", "relu_", "relu6", "hardtanh", "hardtanh_"])


@dataclass(frozen=True)
class LayerInfo:
    """One layer with weights to quantize.

    Attributes:
        name: its module name, which claims and schemes refer to.
        kind: ``conv``, ``linear`` or ``embedding``.
        shape: weight shape.
        macs: multiply-accumulates for one example.
        activation: ``relu`` or ``relu6`` when its output goes straight into one, else ``None``.
        limits: bounds of another clamp that its output goes straight into, such as Hardtanh.
        calls: how often one forward pass calls it; more than 1 means that modules share it.

    """

    name: str
    kind: str
    shape: tuple[int, ...]
    macs: int
    activation: str | None = None
    calls: int = 1
    limits: tuple[float, float] | None = None

    @property
    def params(self) -> int:
        """Number of weights."""
        return int(torch.Size(self.shape).numel())


_KINDS = {**dict.fromkeys(CONVOLUTIONS, "conv"), nn.Linear: "linear", nn.Embedding: "embedding"}

NOTHING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)

_BOUNDS = {(0.0, math.inf): "relu", (0.0, 6.0): "relu6"}


def layers(
    recording: Recording, model: nn.Module, kinds: tuple[type[nn.Module], ...]
) -> tuple[LayerInfo, ...]:
    """Every layer of some kinds that ran, in execution order.

    Args:
        recording: one forward pass of the model, in which layers are operators.
        model: the network.
        kinds: convolutions, linear layers, embeddings.

    """
    names = {module: name for name, module in model.named_modules()}
    calls: dict[nn.Module, list[Node]] = {}
    for node in recording.nodes:
        if isinstance(node.target, kinds):
            calls.setdefault(node.target, []).append(node)
    return tuple(_info(names[m], m, nodes) for m, nodes in calls.items() if m in names)


def _info(name: str, module: nn.Module, calls: list[Node]) -> LayerInfo:
    weight, out = module.weight, calls[-1].example
    assert isinstance(weight, Tensor)
    if isinstance(module, TransposedConv):  # every input meets every weight
        positions = calls[-1].inputs[0].example[0, 0].numel()
    elif isinstance(module, CONVOLUTIONS):
        positions = out[0, 0].numel()
    else:
        positions = out[0].numel() // weight.shape[0]
    macs = 0 if isinstance(module, nn.Embedding) else weight.numel() * positions
    kind = next(word for cls, word in _KINDS.items() if isinstance(module, cls))
    clamp = _clamp(calls[0])
    act = _BOUNDS.get(clamp) if clamp else None
    limits = None if act else clamp
    return LayerInfo(name, kind, tuple(weight.shape), macs, act, len(calls), limits)


def readers(node: Node) -> Iterator[Node]:
    """Who takes a value, looking through modules that do nothing."""
    for user in node.users:
        if isinstance(user.target, NOTHING):
            yield from readers(user)
        else:
            yield user


def _clamp(layer: Node) -> tuple[float, float] | None:
    """Bounds of the clamp that a layer's output goes into, if it goes nowhere else."""
    found = list(readers(layer))
    return bounds(found[0]) if len(found) == 1 else None


def bounds(node: Node) -> tuple[float, float] | None:
    """Bounds of a call that clamps all values alike, or ``None``."""
    target = node.target
    if isinstance(target, nn.Hardtanh):  # ReLU6 is one
        return float(target.min_val), float(target.max_val)
    if isinstance(target, nn.ReLU) or target in (F.relu, torch.relu, torch.relu_, "relu", "relu_"):
        return 0.0, math.inf
    if target == F.relu6:
        return 0.0, 6.0
    if target in (F.hardtanh, torch._C._nn.hardtanh):  # noqa: SLF001 - what F.hardtanh is at times
        given = dict(zip(("min_val", "max_val"), node.args[1:], strict=False)) | dict(node.kwargs)
        return float(given.get("min_val", -1.0)), float(given.get("max_val", 1.0))
    return None


def outside(
    recording: Recording, model: nn.Module, kinds: tuple[type[nn.Module], ...]
) -> list[str]:
    """Names of weights that were multiplied, but not by a layer of those kinds.

    A weight that the network does not hold, or computes, is named by the call that takes it.
    """
    multiplied: set[int] = set()
    named = {id(t): name for name, t in (*model.named_parameters(), *model.named_buffers())}
    others: list[str] = []
    for node in recording.nodes:
        if isinstance(node.target, nn.Module):
            if not isinstance(node.target, kinds) and _multiplies(type(node.target).__name__):
                multiplied |= {id(p) for p in node.target.parameters() if p.dim() > 1}
            continue
        spelled = getattr(node.target, "__name__", str(node.target))
        held = [n for n in node.inputs if n.op == "get_attr" and n.example.dim() > 1]
        if _multiplies(spelled):
            multiplied |= {id(n.target) for n in held if isinstance(n.target, nn.Parameter)}
        if _is_layer(spelled) and not node.constant:
            multiplied |= {id(n.target) for n in held}
            known = any(id(n.target) in named for n in held)
            if not known and any(n.constant and n.example.dim() > 1 for n in node.inputs):
                others.append(f"that of {node.name}")
    return [name for key, name in named.items() if key in multiplied] + others


def _is_layer(name: str) -> bool:
    """Whether a function is what a layer does."""
    return name.startswith("conv") or name in ("linear", "bilinear")


def _multiplies(name: str) -> bool:
    return any(word in name.lower() for word in _PRODUCTS)


class Applied(TorchFunctionMode):
    """Does not apply an activation function twice to a tensor, so that gradients pass whole.

    Attributes:
        tensor: the one.

    """

    tensor: Tensor | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the function, or give the tensor as it is."""
        if args and args[0] is self.tensor and getattr(func, "__name__", "") in _CLAMPS:
            return self.tensor
        return func(*args, **(kwargs or {}))
