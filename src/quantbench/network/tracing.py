"""What one forward pass tells: layers in execution order, which batch norm follows which."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from quantbench.network.folding import BatchNorm

_PRODUCTS = (
    *("linear", "conv", "matmul", "mm", "einsum", "attention", "transformer"),
    *("rnn", "lstm", "gru"),
)

_ACTIVATIONS = {
    "relu": "relu",
    "relu_": "relu",
    "relu6": "relu6",
    "hardtanh": "relu6",
    "hardtanh_": "relu6",
}


@dataclass(frozen=True)
class LayerInfo:
    """One layer with weights to quantize.

    Attributes:
        name: its module name, which claims and schemes refer to.
        kind: ``conv``, ``linear`` or ``embedding``.
        shape: weight shape.
        macs: multiply-accumulates for one example.
        activation: ``relu`` or ``relu6`` when its output goes straight into one, else ``None``.
        calls: how often one forward pass calls it; more than 1 means that modules share it.

    """

    name: str
    kind: str
    shape: tuple[int, ...]
    macs: int
    activation: str | None = None
    calls: int = 1

    @property
    def params(self) -> int:
        """Number of weights."""
        return int(torch.Size(self.shape).numel())


class Trace(TorchFunctionMode):
    """Remembers which tensor came out of which layer while a forward pass runs."""

    def __init__(self) -> None:
        super().__init__()
        self.source: dict[int, str] = {}
        self.alive: list[Any] = []  # keeps ids unique
        self.calls: dict[str, int] = {}
        self.macs: dict[str, int] = {}
        self.activation: dict[str, str] = {}
        self.norms: dict[str, str] = {}  # batch-norm module name -> layer name
        self.multiplied: set[int] = set()  # parameters that products took as they are

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the function; note an activation function fed by a layer."""
        name = getattr(func, "__name__", "")
        if any(word in name for word in _PRODUCTS):
            every = (*args, *(kwargs or {}).values())
            self.multiplied |= {id(a) for a in every if isinstance(a, nn.Parameter) and a.dim() > 1}
        if args and (layer := self.source.get(id(args[0]))):
            if name in _ACTIVATIONS:
                self.activation.setdefault(layer, _ACTIVATIONS[name])
            elif _in_place(name):
                # such as an add: what follows is no longer the layer's own output
                del self.source[id(args[0])]
        return func(*args, **(kwargs or {}))

    def record(self, name: str, module: nn.Module, output: Tensor) -> None:
        """Note a layer's call."""
        self.source[id(output)] = name
        self.alive.append(output)
        self.calls[name] = self.calls.get(name, 0) + 1
        weight = module.weight
        assert isinstance(weight, Tensor)
        positions = (
            output[0, 0].numel()
            if isinstance(module, nn.Conv2d)
            else output[0].numel() // weight.shape[0]
        )
        self.macs[name] = 0 if isinstance(module, nn.Embedding) else weight.numel() * positions

    def layers(self, modules: Mapping[str, nn.Module]) -> tuple[LayerInfo, ...]:
        """Everything seen, in execution order."""
        kinds = {nn.Conv2d: "conv", nn.Linear: "linear", nn.Embedding: "embedding"}

        def info(name: str) -> LayerInfo:
            weight = modules[name].weight
            assert isinstance(weight, Tensor)
            kind = next(k for t, k in kinds.items() if isinstance(modules[name], t))
            act = self.activation.get(name)
            return LayerInfo(
                name, kind, tuple(weight.shape), self.macs[name], act, self.calls[name]
            )

        return tuple(info(name) for name in self.calls)

    def outside(self, model: nn.Module) -> list[str]:
        """Names of weights that were multiplied, but not by a layer."""
        layers = {id(model.get_submodule(name).weight) for name in self.calls}
        return [n for n, p in model.named_parameters() if id(p) in self.multiplied - layers]


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
        if args and args[0] is self.tensor and getattr(func, "__name__", "") in _ACTIVATIONS:
            return self.tensor
        return func(*args, **(kwargs or {}))


def _in_place(function: str) -> bool:
    """Whether a function changes its first argument.

    ``add_`` and ``__iadd__`` do, ``__getitem__`` does not.
    """
    return function.startswith("__i") if function.endswith("__") else function.endswith("_")


def trace(
    model: nn.Module, inputs: tuple[Tensor, ...], kinds: tuple[type[nn.Module], ...]
) -> Trace:
    """One forward pass with hooks on layers and batch norms."""
    seen = Trace()
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, kinds):

            def made(module: nn.Module, _: Any, out: Tensor, name: str = name) -> None:
                seen.record(name, module, out)

            handles.append(module.register_forward_hook(made))
        elif isinstance(module, BatchNorm):

            def feeds(_: nn.Module, args: tuple[Tensor, ...], name: str = name) -> None:
                if (layer := seen.source.get(id(args[0]))) is not None:
                    seen.norms[name] = layer

            handles.append(module.register_forward_pre_hook(feeds))
    try:
        with torch.no_grad(), seen:
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return seen
