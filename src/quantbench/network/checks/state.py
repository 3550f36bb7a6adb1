"""What a network keeps from one call to the next: buffers, and attributes of its modules.

A count of calls does no harm; a scale that is taken from whatever comes first does, and no
recording shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from quantbench.network.graph.calls import mapped
from quantbench.system.tensors import Inputs

_TORCHS = frozenset(vars(nn.Module()))

_KEPT = (bool, int, float, str, type(None), Tensor, tuple, list, dict)

ABSENT = object()  # an attribute that is not there yet

State = Mapping[str, Any]


def state(model: nn.Module) -> State:
    """Copies of all parameters, buffers and plain attributes, by name."""
    return {name: mapped(value, _copied) for name, value in _held(model).items()}


def changes(before: State, model: nn.Module) -> set[str]:
    """Names of what a model holds otherwise than before."""
    after = _held(model)
    names = {*before, *after}
    return {k for k in names if not same(before.get(k, ABSENT), after.get(k, ABSENT))}


def _held(model: nn.Module) -> State:
    """The values themselves."""
    found: dict[str, Any] = dict(_tensors(model))
    for path, module in model.named_modules():
        for key, value in vars(module).items():
            if key not in _TORCHS and isinstance(value, _KEPT):
                found[f"{path}.{key}" if path else key] = value
    return found


def from_values(
    model: nn.Module, start: State, names: set[str], inputs: Inputs, run: Callable[[Inputs], Any]
) -> list[str]:
    """Which of what a first pass sets once and for all depends on the values that it is given.

    Args:
        model: after that pass; is as it was afterwards.
        start: what it kept before that pass.
        names: what the pass has set.
        inputs: of that pass.
        run: runs it.

    """
    first, others = state(model), tuple(_other(t) for t in inputs)
    run(others)
    frozen = names - changes(first, model)  # what is set anew by each pass is none of these
    _put(model, start, frozen)
    run(others)
    other = changes(first, model)
    _put(model, first, other)
    return sorted(frozen & other)


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal, tensors in them included."""
    if a is b:
        return True
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        alike = a.shape == b.shape and a.dtype == b.dtype
        return alike and (torch.equal(a, b) or bool(((a == b) | ((a != a) & (b != b))).all()))  # noqa: PLR0124 - NaN
    several = (isinstance(a, kind) and isinstance(b, kind) for kind in (tuple, list))
    if any(several):  # of a torch.Size a copy is a tuple
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return type(a) is type(b) and isinstance(a, _KEPT) and bool(a == b)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _put(model: nn.Module, held: State, names: set[str]) -> None:
    """Give a model what it kept, under some names."""
    tensors = _tensors(model)
    for name in names:
        path, _, key = name.rpartition(".")
        value = held.get(name, ABSENT)
        if isinstance(value, Tensor) and name in tensors and tensors[name].shape == value.shape:
            tensors[name].data.copy_(value)
        elif value is ABSENT:
            vars(model.get_submodule(path)).pop(key, None)
        else:
            setattr(model.get_submodule(path), key, mapped(value, _copied))


def _other(t: Tensor) -> Tensor:
    """Other values of the same kind."""
    if t.is_floating_point():
        return 0.7 * t
    return t.logical_not() if t.dtype == torch.bool else torch.where(t > t.double().mean(), 0, t)
