"""What identifies a method: its fields as plain values, and the modules that define it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any

from quantbench.errors import BadInput


@dataclass(frozen=True)
class Description:
    """What identifies a method.

    Attributes:
        plain: name, version and fields as JSON values, those of methods within it too.
        given: the same without versions and without fields that are at their default.
        modules: full names of the modules that define it and the methods within it.

    """

    plain: Mapping[str, Any]
    given: Mapping[str, Any]
    modules: tuple[str, ...]

    @property
    def name(self) -> str:
        """The method's."""
        return str(self.plain["name"])


def describe(method: Any) -> Description:
    """Describe a method, or any frozen dataclass with class variables ``name`` and ``version``.

    Raises:
        BadInput: a field that JSON cannot hold exactly.

    """
    modules = tuple(sorted(_modules(method)))
    return Description(json.loads(canonical(method)), given(method), modules)


def canonical(value: Any) -> str:
    """JSON with sorted keys; methods bring the name and version of their class.

    Raises:
        BadInput: a value that JSON cannot hold exactly, such as NaN or a tensor.

    """
    try:
        return json.dumps(_plain(value), sort_keys=True, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as e:
        raise BadInput(
            f"{value!r} cannot be part of a cell's key: {e}; "
            "use numbers, text, tuples and dataclasses"
        ) from e


def given(value: Any) -> Any:
    """As plain JSON values, versions and fields at their default left out, at every depth.

    What is left names a setting for good: a field that a later version adds does not rename it.

    Raises:
        BadInput: a field that JSON cannot hold exactly.

    """
    if is_dataclass(value) and not isinstance(value, type):
        kind: Any = type(value)
        name = {"name": kind.name} if hasattr(kind, "name") else {}
        changed = [f for f in fields(value) if not _at_default(f, getattr(value, f.name))]
        return {**name, **{f.name: given(getattr(value, f.name)) for f in changed}}
    if isinstance(value, Mapping):
        return {str(k): given(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [given(v) for v in value]
    return json.loads(canonical(value))


def _at_default(field: Field[Any], value: Any) -> bool:
    if field.default_factory is not MISSING:
        return canonical(field.default_factory()) == canonical(value)
    return field.default is not MISSING and canonical(field.default) == canonical(value)


def _plain(value: Any) -> Any:
    """Dataclasses as mappings, tuples as lists."""
    if isinstance(value, str | float | int | None):  # most values, and the test is quick
        return value
    if is_dataclass(value) and not isinstance(value, type):
        about = {k: getattr(value, k) for k in ("name", "version") if hasattr(type(value), k)}
        return {**about, **{f.name: _plain(getattr(value, f.name)) for f in fields(value)}}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value


def _modules(value: Any) -> set[str]:
    """Modules that define the method and the methods within it."""
    if is_dataclass(value) and not isinstance(value, type):
        within = (_modules(getattr(value, f.name)) for f in fields(value))
        return {type(value).__module__}.union(*within)
    return set().union(*map(_modules, value)) if isinstance(value, tuple | list) else set()
