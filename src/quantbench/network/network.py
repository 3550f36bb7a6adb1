"""The full-precision network as methods see it: folded, layers in execution order, blocks.

Everything is learnt from one real forward pass with hooks, never from symbolic tracing, so any
model that runs works.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from quantbench.errors import BadInput
from quantbench.network.folding import BatchNormStats, fold
from quantbench.network.tracing import LayerInfo, trace
from quantbench.system.tensors import Inputs, tensor_digest


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
            BadInput: weights that are not finite or not float32, an output that is no tensor, no
                layer to quantize, a block that is no module, batch norm without running statistics,
                folding that changes the output.

        Warns:
            UserWarning: weights that no layer holds, such as those of attention in
                ``nn.MultiheadAttention``.

        """
        model = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
        inputs = (sample,) if isinstance(sample, Tensor) else sample
        require_finite(model, name)
        output = _keep_inputs(model, inputs, name)
        unfolded = copy.deepcopy(model)
        stats = _fold(model, inputs, output, kinds, name)
        with torch.no_grad():
            seen = trace(model, inputs, kinds)
        modules = dict(model.named_modules())
        for block in (*blocks, *(b for stage in stages for b in stage)):
            if block not in modules:
                raise BadInput(f"{name}: block {block!r} is not a module of the network")
        groups = tuple(tuple(s) for s in stages)
        layers = seen.layers(modules)
        if not layers:
            names = ", ".join(k.__name__ for k in kinds)
            raise BadInput(f"{name}: no layer to quantize among {names}")
        if left := seen.outside(model):
            few = ", ".join(left[:4]) + (", ..." if len(left) > 4 else "")
            text = f"{name}: {len(left)} weights are multiplied outside all layers"
            warnings.warn(f"{text}, and stay in full precision: {few}", stacklevel=2)
        return cls(name, model, layers, inputs, tuple(blocks), groups, stats, unfolded)

    def layer(self, name: str) -> LayerInfo:
        """Look a layer up by name."""
        for info in self.layers:
            if info.name == name:
                return info
        names = ", ".join(i.name for i in self.layers)
        raise BadInput(f"{self.name} has no layer {name!r}; its layers are {names}")

    def to(self, device: str | torch.device) -> Network:
        """The same network on another device."""
        if torch.device(device) == self.device:
            return self
        stats = {
            k: BatchNormStats(*(t.to(device) for t in vars(v).values()))
            for k, v in self.batch_norm.items()
        }
        sample = tuple(t.to(device) for t in self.sample)
        model, unfolded = copy.deepcopy(self.model).to(device), self.unfolded
        if unfolded is not None:
            unfolded = copy.deepcopy(unfolded).to(device)
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


def _keep_inputs(model: nn.Module, inputs: Inputs, name: str) -> Tensor:
    """Make activations write tensors of their own: in place, they would overwrite captured ones.

    Returns:
        the output.

    Raises:
        BadInput: the network gives no tensor, or gives another one now.

    """
    with torch.no_grad():
        before = model(*(t.clone() for t in inputs))
        if not isinstance(before, Tensor):
            what = type(before).__name__
            raise BadInput(
                f"{name} returns {what}, not a tensor: put it into a module that returns one tensor"
            )
        for module in model.modules():
            if hasattr(module, "inplace"):
                vars(module)["inplace"] = False
        after: Tensor = model(*inputs)
    close = 1e-5 * float(before.abs().max())
    if not torch.allclose(after, before, rtol=1e-4, atol=close, equal_nan=True):
        raise BadInput(
            f"{name} reads a tensor again that an in-place activation changed: avoid inplace=True"
        )
    return after


@torch.no_grad()
def _fold(
    model: nn.Module,
    inputs: Inputs,
    before: Tensor,
    kinds: tuple[type[nn.Module], ...],
    name: str,
) -> Mapping[str, BatchNormStats]:
    """Fold batch norm, and see that the output stays; raises BadInput if it does not."""
    stats = fold(model, trace(model, inputs, kinds).norms)
    after = model(*inputs)
    if not torch.allclose(before, after, rtol=1e-3, atol=1e-3 * float(before.abs().max())):
        raise BadInput(
            f"{name}: folding batch norm changed the output; is a convolution's output used twice?"
        )
    return stats


def require_finite(model: nn.Module, name: str) -> None:
    """Refuse weights that are not finite, or not float32, naming them."""
    for key, value in model.state_dict().items():
        if value.is_floating_point() and value.dtype != torch.float32:
            raise BadInput(
                f"{name}: {key!r} is {value.dtype}; quantization starts from float32: "
                "call model.float()"
            )
        if value.is_floating_point() and not torch.isfinite(value).all():
            bad = int((~torch.isfinite(value)).sum())
            raise BadInput(
                f"{name}: {bad} of {value.numel()} values of {key!r} are NaN or infinite; "
                "check the checkpoint"
            )
