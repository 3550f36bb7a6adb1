"""The check of a method as a value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields, is_dataclass

from quantbench.quantization.method import Method


def value(method: Method) -> Iterator[str]:
    """A method is a frozen, hashable dataclass, and its class is documented."""
    if not is_dataclass(method):
        yield "must be a dataclass"
        return
    for field in fields(method):
        try:
            setattr(method, field.name, getattr(method, field.name))
            yield "must be frozen: @dataclass(frozen=True)"
        except FrozenInstanceError:
            break
    doc = type(method).__doc__ or ""
    if not doc or doc.startswith(f"{type(method).__name__}("):  # what dataclasses write themselves
        yield "needs a docstring: quantbench show prints it"
    try:
        hash(method)
    except TypeError as e:
        yield f"must be hashable, every field a value such as a tuple: {e}"
