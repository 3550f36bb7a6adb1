"""The full-precision network as methods see it: batch norm folded, layers in execution order, blocks.

Everything is learnt from one real forward pass with hooks, never from symbolic tracing, so any model that runs works.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from quantbench.errors import BadInput

Inputs = tuple[Tensor, ...]
BatchNorm = (nn.BatchNorm1d, nn.BatchNorm2d)
_ACTIVATIONS = {"relu": "relu", "relu_": "relu", "relu6": "relu6", "hardtanh": "relu6", "hardtanh_": "relu6"}


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


@dataclass(frozen=True)
class BatchNormStats:
    """What batch norm said of a layer's output before it was folded away; one value per channel each.

    Attributes:
        mean: mean of the output.
        std: its standard deviation.
        kept: var / (var + eps) of the running variance: 1 for a healthy channel, 0 for a dead one, whose output is
            constant and whose folded weights are large for no reason but eps.
        gain: what folding multiplied the layer's weights by, gamma / sqrt(var + eps).

    """

    mean: Tensor
    std: Tensor
    kept: Tensor
    gain: Tensor


@dataclass(frozen=True, eq=False)
class Network:
    """A full-precision network, batch norm folded, in evaluation mode; never modified by a method.

    Attributes:
        name: model name, such as ``cifar10/resnet20``.
        model: the folded module; called as ``model(*inputs)``.
        layers: every layer with weights, in execution order.
        blocks: module names that block reconstruction treats as units, in execution order.
        stages: groups of blocks.
        batch_norm: statistics of folded batch norms, by layer name.
        sample: one small input batch of the right shape.

    """

    name: str
    model: nn.Module
    layers: tuple[LayerInfo, ...]
    sample: Inputs
    blocks: tuple[str, ...] = ()
    stages: tuple[tuple[str, ...], ...] = ()
    batch_norm: Mapping[str, BatchNormStats] = field(default_factory=dict)
    unfolded: nn.Module | None = None

    @classmethod
    def of(
        cls,
        model: nn.Module,
        sample: Tensor | Inputs,
        *,
        name: str = "model",
        blocks: Sequence[str] = (),
        stages: Sequence[Sequence[str]] = (),
        kinds: tuple[type[nn.Module], ...] = (nn.Conv2d, nn.Linear),
    ) -> Network:
        """Copy, fold batch norm and look at one forward pass.

        Raises:
            BadInput: weights that are NaN or infinite, no layer to quantize, a block that is no module, folding that
                changes the output.

        """
        model = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
        for module in model.modules():
            if hasattr(module, "inplace"):
                vars(module)["inplace"] = False  # in-place activations would overwrite captured tensors
        inputs = (sample,) if isinstance(sample, Tensor) else sample
        check_finite(model, name)
        unfolded = copy.deepcopy(model)
        with torch.no_grad():
            before = model(*inputs)
            stats = _fold(model, _trace(model, inputs, kinds).norms)
            after = model(*inputs)
            if not torch.allclose(before, after, rtol=1e-3, atol=1e-3 * float(before.abs().max())):
                raise BadInput(f"{name}: folding batch norm changed the output; is a convolution's output used twice?")
            seen = _trace(model, inputs, kinds)
        modules = dict(model.named_modules())
        for block in (*blocks, *(b for stage in stages for b in stage)):
            if block not in modules:
                raise BadInput(f"{name}: block {block!r} is not a module of the network")
        groups = tuple(tuple(s) for s in stages)
        layers = seen.layers(modules)
        if not layers:
            raise BadInput(f"{name}: no layer to quantize among {', '.join(k.__name__ for k in kinds)}")
        return cls(name, model, layers, inputs, tuple(blocks), groups, stats, unfolded)

    def layer(self, name: str) -> LayerInfo:
        """Look a layer up by name."""
        for info in self.layers:
            if info.name == name:
                return info
        raise BadInput(f"{self.name} has no layer {name!r}; its layers are {', '.join(i.name for i in self.layers)}")

    def to(self, device: str | torch.device) -> Network:
        """The same network on another device."""
        if torch.device(device) == self.device:
            return self
        stats = {k: BatchNormStats(*(t.to(device) for t in vars(v).values())) for k, v in self.batch_norm.items()}
        sample = tuple(t.to(device) for t in self.sample)
        model, unfolded = (None if m is None else copy.deepcopy(m).to(device) for m in (self.model, self.unfolded))
        assert model is not None
        return replace(self, model=model, sample=sample, batch_norm=stats, unfolded=unfolded)

    @property
    def edges(self) -> frozenset[str]:
        """Names of the first and the last layer."""
        return frozenset({self.layers[0].name, self.layers[-1].name})

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def digest(self) -> str:
        """Hash of all weights and buffers."""
        return tensor_digest(self.model.state_dict())


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """Hash of names, dtypes, shapes and bytes; independent of order and device."""
    h = hashlib.sha256()
    for name in sorted(tensors):
        t = tensors[name].detach().cpu().contiguous()
        h.update(f"{name}:{t.dtype}:{tuple(t.shape)}".encode())
        h.update(t.reshape(-1).view(torch.uint8).numpy().tobytes())
    return h.hexdigest()


def check_finite(model: nn.Module, name: str) -> None:
    """Refuse weights that are not finite, naming them."""
    for key, value in model.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            bad = int((~torch.isfinite(value)).sum())
            raise BadInput(
                f"{name}: {bad} of {value.numel()} values of {key!r} are NaN or infinite; check the checkpoint"
            )


class _Trace(TorchFunctionMode):
    """Remembers which tensor came out of which layer while a forward pass runs."""

    def __init__(self) -> None:
        super().__init__()
        self.source: dict[int, str] = {}
        self.alive: list[Any] = []  # keeps ids unique
        self.calls: dict[str, int] = {}
        self.macs: dict[str, int] = {}
        self.activation: dict[str, str] = {}
        self.norms: dict[str, str] = {}  # batch-norm module name -> layer name

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the function; note an activation function fed by a layer."""
        name = getattr(func, "__name__", "")
        if args and (layer := self.source.get(id(args[0]))):
            if name in _ACTIVATIONS:
                self.activation.setdefault(layer, _ACTIVATIONS[name])
            elif _in_place(name):  # such as an add: what follows is no longer the layer's own output
                del self.source[id(args[0])]
        return func(*args, **(kwargs or {}))

    def record(self, name: str, module: nn.Module, output: Tensor) -> None:
        """Note a layer's call."""
        self.source[id(output)] = name
        self.alive.append(output)
        self.calls[name] = self.calls.get(name, 0) + 1
        weight = module.weight
        assert isinstance(weight, Tensor)
        positions = output[0, 0].numel() if isinstance(module, nn.Conv2d) else output[0].numel() // weight.shape[0]
        self.macs[name] = 0 if isinstance(module, nn.Embedding) else weight.numel() * positions

    def layers(self, modules: Mapping[str, nn.Module]) -> tuple[LayerInfo, ...]:
        """Everything seen, in execution order."""
        kinds = {nn.Conv2d: "conv", nn.Linear: "linear", nn.Embedding: "embedding"}

        def info(name: str) -> LayerInfo:
            weight = modules[name].weight
            assert isinstance(weight, Tensor)
            kind = next(k for t, k in kinds.items() if isinstance(modules[name], t))
            act = self.activation.get(name)
            return LayerInfo(name, kind, tuple(weight.shape), self.macs[name], act, self.calls[name])

        return tuple(info(name) for name in self.calls)


def _in_place(function: str) -> bool:
    """Whether a function changes its first argument: ``add_`` and ``__iadd__`` do, ``__getitem__`` does not."""
    return function.startswith("__i") if function.endswith("__") else function.endswith("_")


def _trace(model: nn.Module, inputs: Inputs, kinds: tuple[type[nn.Module], ...]) -> _Trace:
    """One forward pass with hooks on layers and batch norms."""
    trace = _Trace()
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, kinds):
            handles.append(module.register_forward_hook(lambda m, _, out, name=name: trace.record(name, m, out)))
        elif isinstance(module, BatchNorm):

            def feeds(_: nn.Module, args: Inputs, name: str = name) -> None:
                if (layer := trace.source.get(id(args[0]))) is not None:
                    trace.norms[name] = layer

            handles.append(module.register_forward_pre_hook(feeds))
    try:
        with torch.no_grad(), trace:
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return trace


def _fold(model: nn.Module, norms: Mapping[str, str]) -> dict[str, BatchNormStats]:
    """Fold each batch norm into the layer before it: W' = W gamma/sigma, b' = beta + (b - mu) gamma/sigma."""
    stats = {}
    for norm_name, layer_name in norms.items():
        norm, layer = model.get_submodule(norm_name), model.get_submodule(layer_name)
        assert isinstance(norm, BatchNorm)
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        gain = (norm.running_var.double() + norm.eps).rsqrt() * norm.weight.double()
        bias = torch.zeros_like(gain) if layer.bias is None else layer.bias.double()
        shape = (-1,) + (1,) * (layer.weight.dim() - 1)
        layer.weight = nn.Parameter((layer.weight.double() * gain.reshape(shape)).float(), requires_grad=False)
        folded = norm.bias.double() + (bias - norm.running_mean.double()) * gain
        layer.bias = nn.Parameter(folded.float(), requires_grad=False)
        kept = norm.running_var / (norm.running_var + norm.eps)
        mean, std = norm.bias.detach().clone(), norm.weight.abs() * kept.sqrt()
        stats[layer_name] = BatchNormStats(mean, std, kept, gain.float())
        parent, _, leaf = norm_name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, nn.Identity().eval())
    return stats
