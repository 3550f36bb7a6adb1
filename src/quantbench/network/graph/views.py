"""Tensors that share the memory of another one, and what a write into one does to the others.

``y[:, 0].mul_(2)`` changes ``y``, which no call of torch's says. A recording holds values, not
memory: behind such a write it gets a call that makes ``y`` anew, and where an older view of ``y``
is read again, one that views the new ``y``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from quantbench.network.graph.calls import parts

# methods and attributes whose result may lie in their tensor's memory
VIEWS = frozenset(
    [
        *("view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "contiguous"),
        *("squeeze", "unsqueeze", "transpose", "permute", "swapaxes", "swapdims", "movedim"),
        *("moveaxis", "t", "T", "mT", "data", "detach", "chunk", "split", "tensor_split", "unbind"),
        *("narrow", "select", "diagonal", "__getitem__", "alias"),
    ]
)


_TURNS = ("transpose", "permute", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "T", "mT")


@dataclass(frozen=True, eq=False)
class View:
    """How a tensor was made of another one, in whose memory it lies.

    Attributes:
        base: the other one.
        name: of the method or attribute of tensors; ``alias`` for the same tensor once again.
        args: positional arguments, without the base.
        kwargs: keyword arguments.
        part: which of several results it is, if there are several.

    """

    base: Tensor
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    part: int | None

    def spelled(self) -> tuple[Any, ...]:
        """The arguments of ``viewed`` and ``with_view`` that say which view it is."""
        return self.name, self.args, dict(self.kwargs), self.part


def views(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any
) -> Iterator[tuple[Tensor, View]]:
    """Every tensor that a call gave and that lies in the memory of its first argument."""
    base = args[0] if args else None
    name = getattr(func, "__name__", "")
    if name == "__get__":
        name = func.__self__.__name__  # type: ignore[attr-defined]
    if not isinstance(base, Tensor) or base.layout != torch.strided:
        return
    for way, tensor in parts(out):
        if tensor is base or not _shares(base, tensor) or len(way) > 1:
            continue
        if (index := _slice(base, tensor)) is not None:
            yield tensor, View(base, "__getitem__", (index,), {}, None)
        elif name in VIEWS:
            part = way[0][1] if way else None
            yield tensor, View(base, name, tuple(args[1:]), dict(kwargs), part)
        elif tensor.shape == base.shape and tensor.stride() == base.stride():
            yield tensor, View(base, "alias", (), {}, None)


def viewed(
    tensor: Tensor, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], part: int | None
) -> Tensor:
    """A view of a tensor."""
    if name == "alias":
        return tensor
    found = getattr(tensor, name)
    found = found if isinstance(found, Tensor) else found(*args, **kwargs)
    one: Tensor = found if part is None else found[part]
    return one


def with_view(
    tensor: Tensor,
    value: Tensor,
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    part: int | None,
) -> Tensor:
    """A tensor in which a view has another value: what a write into the view makes of it."""
    if value.numel() == tensor.numel():
        return _all_of(tensor, value, name, args, kwargs)
    # of what lies in order in memory every view is one, and no copy
    made = tensor.clone(memory_format=torch.contiguous_format)
    if name == "__getitem__":  # which exporters know
        made[args[0]] = value
        return made
    viewed(made, name, args, kwargs, part).copy_(value)
    return made


Call = tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]


def writes_by_argument(kwargs: Mapping[str, Any]) -> bool:
    """Whether a call was told to write: with ``out=`` or ``inplace=True``."""
    return isinstance(kwargs.get("out"), Tensor) or kwargs.get("inplace") is True


def assigned(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """A call that writes all of a tensor, as what it writes.

    Such are ``copy_``, and those with ``out=`` or ``inplace=True``.
    """
    into, given = kwargs.get("out"), args[0] if args else None
    if getattr(func, "__name__", "") == "copy_":
        source = args[1] if len(args) > 1 else None
        if isinstance(source, Tensor) and _alike(source, given):
            return Tensor.clone, (source,), {}
    if isinstance(into, Tensor) and isinstance(given, Tensor) and into.dtype == given.dtype:
        return func, args, {k: v for k, v in kwargs.items() if k != "out"}
    if kwargs.get("inplace") is True:
        return func, args, {**kwargs, "inplace": False}
    return func, args, kwargs


def _alike(a: Tensor, b: Any) -> bool:
    return isinstance(b, Tensor) and a.shape == b.shape and a.dtype == b.dtype


def _all_of(
    tensor: Tensor, value: Tensor, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    """The same of a view of all entries: the value in the tensor's shape and order."""
    if name not in _TURNS:
        return value.reshape(tensor.shape).clone()
    sizes = range(1, tensor.dim() + 1)  # that tell dimensions apart
    order = [n - 1 for n in viewed(tensor.new_empty(*sizes), name, args, kwargs, None).shape]
    return value.permute(*(order.index(d) for d in range(tensor.dim()))).clone()


def _slice(base: Tensor, part: Tensor) -> tuple[slice, ...] | None:
    """The index of a part of a tensor that has some of its entries along one dimension."""
    if part.stride() != base.stride() or part.shape[:1] != base.shape[:1]:
        return None
    cut = [d for d, (n, m) in enumerate(zip(base.shape, part.shape, strict=True)) if n != m]
    if len(cut) != 1 or not base.stride(cut[0]):
        return None
    first = (part.storage_offset() - base.storage_offset()) // base.stride(cut[0])
    return (*(slice(None),) * cut[0], slice(first, first + part.shape[cut[0]]))


def _shares(a: Tensor, b: Tensor) -> bool:
    if b.layout != torch.strided or a.device != b.device or not b.numel():
        return False
    try:
        return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):  # inside torch.vmap tensors have no memory
        return False
