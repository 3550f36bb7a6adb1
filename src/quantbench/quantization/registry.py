"""Methods by name, found through entry points.

In-tree ones come through the same door as anyone's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from quantbench.errors import BadInput, did_you_mean

GROUP = "quantbench.methods"


def methods() -> dict[str, EntryPoint]:
    """Every installed method's entry point by name; nothing is imported."""
    return {e.name: e for e in sorted(entry_points(group=GROUP), key=lambda e: e.name)}


def list_methods() -> list[str]:
    """Names of every installed method, as :func:`make` takes them."""
    return list(methods())


def method_class(name: str) -> Any:
    """Import one method's class.

    Raises:
        BadInput: no such method, or it is no frozen dataclass derived from ``Method``.

    """
    from quantbench.quantization.method import Method

    known = methods()
    if name not in known:
        raise BadInput(f"no method {name!r}{did_you_mean(name, known)}")
    try:
        found = known[name].load()
    except (Exception, SystemExit) as e:
        raise BadInput(
            f"method {name!r} cannot be imported from {known[name].value}: {type(e).__name__}: {e}"
        ) from e
    frozen = is_dataclass(found) and getattr(found, "__dataclass_params__").frozen  # noqa: B009 - unknown to typing
    if not (frozen and isinstance(found, type) and issubclass(found, Method)):
        raise BadInput(
            f"method {name!r}: {known[name].value} must be a frozen dataclass derived from "
            "quantbench.quantization.method.Method"
        )
    return found


def make(name: str, options: Mapping[str, Any] | None = None) -> Any:
    """A method with some of its hyperparameters changed; ``a+b`` is the pipeline of both.

    An option of a pipeline is written ``step.option``, or plainly when only one step has it.

    Raises:
        BadInput: an option that the method does not have, or a value of the wrong type.

    """
    steps = name.split("+")
    if len(steps) == 1:
        return _configured(name, options or {})
    from quantbench.quantization.method import Pipeline

    by_step: dict[str, dict[str, Any]] = {step: {} for step in steps}
    for key, value in (options or {}).items():
        step, _, option = key.rpartition(".")
        owners = [step]
        if not step:
            owners = [s for s in steps if key in {f.name for f in fields(method_class(s))}]
        if len(owners) != 1 or owners[0] not in by_step:
            raise BadInput(
                f"option {key!r} of {name!r}: write it as STEP.{option}, "
                f"STEP being one of {', '.join(steps)}"
            )
        by_step[owners[0]][option] = value
    return Pipeline(tuple(_configured(step, by_step[step]) for step in steps))


def _configured(name: str, options: Mapping[str, Any]) -> Any:
    """One method with checked options."""
    cls = method_class(name)
    known = {f.name: f for f in fields(cls)}
    defaults = cls()
    for key, value in options.items():
        if key not in known:
            raise BadInput(f"method {name!r} has no option {key!r}{did_you_mean(key, known)}")
        default = getattr(defaults, key)
        same = isinstance(value, bool) == isinstance(default, bool)  # a bool is an int, too
        fits = same and isinstance(value, type(default))
        if (
            default is not None
            and not fits
            and not (isinstance(default, float) and type(value) is int)
        ):
            raise BadInput(
                f"method {name!r}: {key} = {value!r} should be a {type(default).__name__} "
                f"like {default!r}"
            )
    return cls(**options)
