"""What calls of torch are called, and which of them are more than a function of tensors."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from quantbench.network.graph.calls import leaves

# methods that take a tensor's values out of the graph
VALUES = frozenset(
    [
        *("__bool__", "__int__", "__float__", "__index__", "__complex__", "item", "tolist"),
        *("numpy", "equal", "allclose"),
    ]
)


def spelled(func: Callable[..., Any]) -> tuple[str, Any]:
    """The word that fx has for a call, and its target."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        return "call_function", getattr
    if name == "__getitem__":
        return "call_function", operator.getitem
    return ("call_method", name) if getattr(Tensor, name, None) is func else ("call_function", func)


def with_item(tensor: Tensor, index: Any, value: Any) -> Tensor:
    """``tensor[index] = value`` as a function: what comes of it is another tensor."""
    made = tensor.clone()
    made[index] = value
    return made


def in_place(function: str) -> bool:
    """Whether a function changes its first argument: ``add_`` does, ``__getitem__`` does not."""
    return function.startswith("__i") if function.endswith("__") else function.endswith("_")


def distinct(out: Any, given: Any) -> Any:
    """A result that is one of the arguments, as a tensor of its own that shares the memory.

    A quantizer that is off gives what it got; who reads the tensor before it, does not read it.
    """
    got = {id(v) for v in leaves(given) if isinstance(v, Tensor)}
    with torch._C.DisableTorchFunction():  # noqa: SLF001 - no public way
        return out.view_as(out) if isinstance(out, Tensor) and id(out) in got else out


def within(path: str, container: str) -> bool:
    """Whether a module lies in another one."""
    return not container or path.startswith(f"{container}.")
