"""Networks of several inputs or outputs, as ones that take tensors and give a tensor."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from quantbench.errors import BadInput
from quantbench.network.graph.calls import parts
from quantbench.system.tensors import Inputs

Sample = Tensor | Sequence[Tensor] | Mapping[str, Tensor]

Output = str | int | tuple[str | int, ...]


def as_tensors(sample: Sample) -> Inputs:
    """The tensors of a sample, in its order; arrays become tensors.

    Raises:
        BadInput: something in it is neither.

    """
    several = isinstance(sample, Mapping | tuple | list)
    values: Any = sample.values() if isinstance(sample, Mapping) else sample
    tensors = [
        torch.from_numpy(v) if isinstance(v, np.ndarray) else v
        for v in (values if several else [values])
    ]
    for value in tensors:
        if not isinstance(value, Tensor):
            raise BadInput(
                f"a sample holds {type(value).__name__}: give a batch of inputs (N, ...), a "
                "tensor, several in order, or a mapping by the names of forward's arguments"
            )
    return tuple(tensors)


def adapt(model: nn.Module, sample: Sample, output: Output | None, name: str) -> None:
    """Make a network take a sample's tensors one by one, and give one output; names stay.

    Args:
        model: changed in place: its class becomes a subclass of what it was.
        sample: where it is a mapping, its keys are names of arguments of ``forward``.
        output: which output: a key, an attribute, a position, or a way of several such.
        name: what messages call the network.

    Raises:
        BadInput: a name that ``forward`` does not have, or a graph module, which makes its class
            anew when it is copied.

    """
    signature = inspect.signature(model.forward)
    names = tuple(sample) if isinstance(sample, Mapping) else ()
    accepts = signature.parameters
    if unknown := [n for n in names if n not in accepts]:
        raise BadInput(f"{name} takes {', '.join(accepts)}; the sample has {', '.join(unknown)}")
    if not names and output is None:
        return
    if isinstance(model, fx.GraphModule):
        raise BadInput(f"{name} is a torch.fx.GraphModule: put it into a module with one output")
    way = output if isinstance(output, tuple) else () if output is None else (output,)
    base: Any = type(model)

    def forward(self: Any, *given: Tensor) -> Any:
        found = (
            base.forward(self, **dict(zip(names, given, strict=True)))
            if names
            else base.forward(self, *given)
        )
        return picked(found, way, name)

    taken = [accepts[n].replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in names]
    if names:
        taken = [p.replace(default=inspect.Parameter.empty) for p in taken]
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    own = own.replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD)
    kept = taken if names else list(accepts.values())
    vars(forward)["__signature__"] = inspect.Signature([own, *kept])
    model.__class__ = type(base.__name__, (base,), {"forward": forward, "__module__": __name__})


def spare_inputs(model: nn.Module, name: str) -> None:
    """Make a network that writes into its inputs write into copies; calibration data stay as is.

    Args:
        model: changed in place: its class becomes a subclass of what it was.
        name: what messages call the network.

    Raises:
        BadInput: a graph module, which makes its class anew when it is copied.

    """
    if isinstance(model, fx.GraphModule):
        raise BadInput(f"{name} is a torch.fx.GraphModule that writes into its input: clone it")
    base: Any = type(model)
    signature = inspect.signature(base.forward)

    def forward(self: Any, *given: Any, **named: Any) -> Any:
        return base.forward(self, *map(_copied, given), **{k: _copied(v) for k, v in named.items()})

    vars(forward)["__signature__"] = signature
    model.__class__ = type(base.__name__, (base,), {"forward": forward, "__module__": __name__})


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def picked(found: Any, way: tuple[str | int, ...], name: str) -> Any:
    """One part of what a network gives.

    Raises:
        BadInput: there is none of that name; says which there are.

    """
    for step in way:
        if isinstance(found, Tensor):
            raise BadInput(
                f"{name} has no output {way!r}: a step before {step!r} is {described(found)}, of "
                "which that would be one example"
            )
        try:
            if isinstance(found, Mapping) or isinstance(step, int):
                found = found[step]
            else:
                found = getattr(found, step)
        except (KeyError, IndexError, AttributeError, TypeError) as e:
            raise BadInput(f"{name} has no output {way!r}; it gives {described(found)}") from e
    return found


def described(value: Any) -> str:
    """The tensors in what a network gives, with the names that ``output`` takes."""
    found = [
        f"{'.'.join(str(key) for _, key in way) or 'a tensor'} {tuple(t.shape)}"
        for way, t in parts(value)
    ]
    kind = type(value).__name__
    return f"{kind} of {', '.join(found)}" if found else kind


def as_float32(model: nn.Module, sample: Sample) -> Sample:
    """A network in float32, and its sample: quantization starts from there.

    Args:
        model: changed in place.
        sample: of any floating type; whole numbers stay.

    """
    model.float()

    def one(t: Tensor) -> Tensor:
        return t.float() if isinstance(t, Tensor) and t.is_floating_point() else t

    if isinstance(sample, Tensor):
        return one(sample)
    if isinstance(sample, Mapping):
        return {k: one(t) for k, t in sample.items()}
    return tuple(one(t) for t in sample)
