"""What is checked: a method with little work to do, in a pipeline that quantizes.

How little is said by a method itself, in a class variable::

    quick: ClassVar[Mapping[str, object]] = {"rounds": 2}

or, without one, by the usual names of fields in ``AMOUNTS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch

from quantbench.conformance.families import EXAMPLES, tiny_network
from quantbench.errors import BadInput, Unsupported, did_you_mean
from quantbench.quantization.method import Job, Method, Pipeline
from quantbench.quantization.registry import make
from quantbench.quantization.scheme import Grid, Scheme

_ACTS = Grid(8, symmetric=False, range="minmax")

SCHEMES = {
    "w4": Scheme(Grid(4)),
    "w4a8": Scheme(Grid(4, per_channel=True, range="minmax"), _ACTS),
    "integer": Scheme(Grid(8, per_channel=True, range="minmax"), _ACTS, placement="integer"),
}

# At most so much of what a field counts, by its name.
AMOUNTS: Mapping[str, int] = {
    "iterations": 3,
    "act_iterations": 2,
    "epochs": 1,
    "repeats": 2,
    "sweeps": 3,
    "steps": 3,
    "samples": 40,
    "draws": 2,
    "images": EXAMPLES,
    "examples": EXAMPLES,
    "moves": 5,
    "width": 4,
    "points": 3,
}


def schemes_of(family: str) -> tuple[str, ...]:
    """What a family is run under: one scale a tensor, which is simpler, on one network only."""
    return tuple(SCHEMES) if family == "residual" else ("w4a8", "integer")


def quick(method: Method) -> Method:
    """The method with less work: what its ``quick`` says, else ``AMOUNTS``; steps alike.

    Raises:
        BadInput: ``quick`` names a field that there is not.

    """
    if isinstance(method, Pipeline):
        return Pipeline(tuple(quick(step) for step in method.steps))
    if not is_dataclass(method):
        return method
    own = getattr(method, "quick", None)
    changed, known = _less(method) if own is None else own, {f.name for f in fields(method)}
    for name in changed:
        if name not in known:
            raise BadInput(f"{method.name}.quick has {name!r}, no field{did_you_mean(name, known)}")
    return replace(method, **changed)


def _less(method: Any) -> dict[str, Any]:
    """Fields that are above their amounts, and methods in fields."""
    found: dict[str, Any] = {}
    for field in fields(method):
        value, most = getattr(method, field.name), AMOUNTS.get(field.name)
        if isinstance(value, Method):
            found[field.name] = quick(value)
        elif most is not None and type(value) is int and value > most:
            found[field.name] = most
    return found


class _NothingQuantized(Unsupported):
    """A correction asked for what it corrects."""


@dataclass(frozen=True, eq=False)
class _Asked(Job):
    """A job that tells this refusal from others."""

    def need(self) -> Any:
        """See :class:`Job`."""
        if self.quantized is None:
            raise _NothingQuantized
        return self.quantized


def complete(method: Method) -> Method:
    """The method, or the pipeline in which it does its part.

    A correction, which asks for a quantized network, stands behind rounding to nearest; a step that
    gives none, such as a rewrite, in front of it. What is wrong with a method that fails is for the
    checks to say.
    """
    for scheme in SCHEMES.values():
        net, calib = tiny_network("residual")
        if method.unsupported(net, scheme):
            continue
        try:
            done = method.apply(_Asked(net, calib, scheme, torch.Generator().manual_seed(0)))
        except _NothingQuantized:
            return Pipeline((make("nearest"), method))
        except Unsupported:
            continue
        except Exception:  # noqa: BLE001 - a broken method, whatever breaks
            return method
        return method if done.quantized is not None else Pipeline((method, make("nearest")))
    return method
