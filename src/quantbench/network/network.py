"""The full-precision network as methods see it: folded, layers in execution order, blocks.

Everything is learnt from one real forward pass with hooks, never from symbolic tracing, so any
model that runs works.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from quantbench.errors import BadInput
from quantbench.network.blocks import find_blocks
from quantbench.network.blocks import stages as resolution_stages
from quantbench.network.checks.given import evaluating_copy, require_finite, require_unwrapped
from quantbench.network.checks.passes import keep_inputs, tell_coupled
from quantbench.network.checks.same import require_same
from quantbench.network.folding import BatchNormStats, fold, foldable
from quantbench.network.graph.forward_pass import recorded
from quantbench.network.graph.recording import Recording
from quantbench.network.layers import LAYERS, TRANSPOSED, layer_kinds
from quantbench.network.plain.exported import from_exported, is_exported
from quantbench.network.plain.given import Output, Sample, adapt, as_float32, as_tensors
from quantbench.network.plain.make import make_plain
from quantbench.network.plain.unshared import unshare
from quantbench.network.tracing import LayerInfo, layers, outside
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
        unfolded: the network before layers were made plain and batch norm was folded.
        origin: digest of the network that this one was rewritten from; empty if it was not.
        changing: buffers that a pass changes, such as a count of calls; no part of the digest.

    """

    name: str
    model: nn.Module
    layers: tuple[LayerInfo, ...]
    sample: Inputs
    blocks: tuple[str, ...] = ()
    stages: tuple[tuple[str, ...], ...] = ()
    batch_norm: Mapping[str, BatchNormStats] = field(default_factory=dict)
    unfolded: nn.Module | None = None
    origin: str = ""
    changing: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        model: nn.Module,
        sample: Sample,
        *,
        name: str = "model",
        output: Output | None = None,
        blocks: Sequence[str] | None = None,
        stages: Sequence[Sequence[str]] | None = None,
        kinds: tuple[type[nn.Module], ...] = LAYERS,
        float32: bool = False,
        unshared: bool = False,
    ) -> Network:
        """Copy, make layers plain, fold batch norm and look at one forward pass.

        Args:
            model: any module that runs on the sample; not changed.
            sample: a small batch of its inputs, (N, ...) each: a tensor, several in order, or a
                mapping by the names of ``forward``'s arguments.
            name: what messages call it.
            output: which output to look at, where there are several: a key, an attribute or a
                position, or a tuple of such, such as ``("out", 0)``.
            blocks: modules that block reconstruction treats as units; found from the graph unless
                given, see :func:`quantbench.network.blocks.find_blocks`.
            stages: groups of blocks; unless given, those of one resolution.
            kinds: classes of layers to quantize; by default convolutions of any rank, transposed
                ones too, and linear layers.
            float32: convert a network in float16 or bfloat16, and its sample.
            unshared: give every use of a layer that is used several times a layer of its own.

        Raises:
            BadInput: a model in a wrapper, weights that are not finite or not float32, an output
                that is no tensor, or another one each time, no layer to quantize, a block that is
                no module, batch norm without running statistics, a rewriting step that changes the
                output.

        Warns:
            UserWarning: weights that no layer holds, such as those of attention in
                ``nn.MultiheadAttention``; layers that did not run.

        """
        kinds = kinds if isinstance(kinds, tuple) else (kinds,)
        if not all(isinstance(kind, type) for kind in kinds) or isinstance(blocks, str):
            raise BadInput("kinds are classes of layers, and blocks a list of names")
        require_unwrapped(model, name, kinds)
        kinds = layer_kinds(kinds)
        model = evaluating_copy(model)
        if is_exported(model):
            model = from_exported(model, as_tensors(sample), name)
        sample = as_float32(model, sample) if float32 else sample
        adapt(model, sample, output, name)
        inputs = as_tensors(sample)
        require_finite(model, name)
        right, changing = keep_inputs(model, inputs, name)
        unfolded = copy.deepcopy(model)
        if unshared:
            model = unshare(model, inputs, (*kinds, *TRANSPOSED))
        make_plain(model, inputs, kinds)
        require_same(model, unfolded, inputs, f"{name}: making layers plain", right)
        with torch.no_grad():
            stats = fold(model, foldable(recorded(model, inputs), model))
        require_same(model, unfolded, inputs, f"{name}: folding batch norm", right)
        recording = recorded(model, inputs)
        found = layers(recording, model, kinds)
        if not found:
            raise BadInput(f"{name}: no layer to quantize {_none_ran(model, kinds)}")
        _tell_what_stays(name, model, recording, found, kinds)
        tell_coupled(model, inputs, right, name)
        if blocks is None:
            blocks = find_blocks(recording, model, kinds)
        if stages is None:
            stages = resolution_stages(model, blocks)
        groups = tuple(tuple(stage) for stage in stages)
        modules = dict(model.named_modules())
        for block in (*blocks, *(b for stage in groups for b in stage)):
            if block not in modules:
                raise BadInput(f"{name}: block {block!r} is not a module of the network")
        held = (inputs, tuple(blocks), groups, stats, unfolded)
        return cls(name, model, found, *held, changing=changing)

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

    @cached_property
    def sample_output(self) -> Tensor:
        """What the network gives for its sample; computed once."""
        with torch.no_grad():
            found: Tensor = self.model(*self.sample)
        return found

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
        """Hash of all weights and buffers that stay what they are."""
        held = self.model.state_dict().items()
        return tensor_digest({k: v for k, v in held if k not in self.changing})

    @property
    def origin_digest(self) -> str:
        """Digest of the network as it was given, before any method rewrote it."""
        return self.origin or self.digest


def _none_ran(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> str:
    """What to say of a network in which no layer ran."""
    modules = dict(model.named_modules())
    if idle := [n for n, m in modules.items() if isinstance(m, kinds)]:
        patched = [n or "the network itself" for n, m in modules.items() if "forward" in vars(m)]
        hint = f"; the forward of {', '.join(patched)} is patched, and may call another model's"
        return f"ran on the sample, of {', '.join(idle[:4])}" + hint * bool(patched)
    return f"among {', '.join(k.__name__ for k in kinds)}"


def _tell_what_stays(
    name: str,
    model: nn.Module,
    recording: Recording,
    found: Sequence[LayerInfo],
    kinds: tuple[type[nn.Module], ...],
) -> None:
    """Warn of weights outside all layers, and of layers that did not run."""
    modules = dict(model.named_modules())
    ran, left = {info.name for info in found}, outside(recording, model, kinds)
    known = ran | {weight.removesuffix(".weight") for weight in left}
    held = {id(modules[n].weight) for n in ran}
    idle = [
        n
        for n, m in modules.items()
        if isinstance(m, kinds) and n not in known and id(m.weight) not in held
    ]
    _warn(name, "weights are multiplied outside all layers", left)
    _warn(name, "layers did not run on the sample", idle)


def _warn(network: str, what: str, names: Sequence[str]) -> None:
    """Say what stays in full precision."""
    if names:
        few = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
        text = f"{network}: {len(names)} {what}, and stay in full precision: {few}"
        warnings.warn(text, stacklevel=4)
