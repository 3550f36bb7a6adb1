"""What calls of torch are called, and which of them are more than a function of tensors."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from quantbench.network.graph.calls import leaves

# what of a tensor but its values a call may give; whatever else gives no tensor looks at values
METADATA = frozenset(
    [
        *("__get__", "__len__", "__hash__", "__repr__", "__format__", "__dir__", "type"),
        *("dim", "ndimension", "size", "numel", "nelement", "stride", "storage_offset"),
        *("is_contiguous", "is_floating_point", "is_complex", "is_signed", "is_conj", "is_neg"),
        *("is_inference", "is_same_size", "is_shared", "is_pinned", "is_set_to", "is_tensor"),
        *("is_coalesced", "has_names", "dense_dim", "sparse_dim", "dim_order"),
        *("element_size", "get_device", "data_ptr", "storage", "untyped_storage", "storage_type"),
        *("result_type", "can_cast", "promote_types", "register_hook", "__reduce_ex__"),
    ]
)


def spelled(func: Callable[..., Any]) -> tuple[str, Any]:
    """The word that fx has for a call, and its target."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        return "call_function", getattr
    if name == "__getitem__":
        return "call_function", operator.getitem
    if getattr(Tensor, name, None) is func or func in _POWERS:
        return "call_method", name
    return "call_function", func


# methods under another name than their own: x ** 2 and x **= 2
_POWERS = (Tensor.__pow__, Tensor.__ipow__)


def unwritable(func: Callable[..., Any]) -> bool:
    """Whether torch.fx would write another name than one that leads to a function."""
    try:
        path = fx.node._get_qualified_name(func).split(".")  # noqa: SLF001 - no public way
    except Exception:  # noqa: BLE001 - whatever it makes of the name
        return True
    found: Any = torch
    for name in path[1:]:
        found = getattr(found, name, None)
    return path[0] == "torch" and found is None


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
