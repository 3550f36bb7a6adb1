"""Cells: one run each, with a key of everything that its result may depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from quantbench.errors import BadInput
from quantbench.quantization.scheme import Scheme
from quantbench.runs.source_hash import source_hashes
from quantbench.system.machine import torch_version

# every result depends on these as well
EVIDENCE = ("quantbench.models.catalog", "quantbench.tasks.evaluate", "quantbench.system.seeds")

INTEGERS = "quantbench.integer.backends.native"  # and what is timed, on this


@dataclass(frozen=True)
class Cell:
    """One run: a method with its hyperparameters on a network, with a scheme, data and a seed.

    Attributes:
        method: any frozen dataclass with class variables ``name`` and ``version``.
        scheme: what is quantized; ``None`` for full precision.
        model: name of the network.
        checkpoint: digest of its weights.
        calib: name of the calibration set.
        calib_n: number of examples drawn from it.
        calib_digest: digest of the set.
        eval_data: name of the evaluation set.
        eval_digest: its digest.
        seed: the number that all seeds of the run derive from.
        device: kind of device, ``cpu`` or ``cuda``.
        code: modules that the result depends on beside the method's own, such as that of the
            network's family.

    """

    method: Any
    scheme: Scheme | None
    model: str
    checkpoint: str
    calib: str
    calib_n: int
    calib_digest: str
    eval_data: str
    eval_digest: str
    seed: int
    device: str = "cpu"
    code: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Readable name that stays the same when code, data or torch change; baselines are kept under it."""
        stable = {
            "method": _identity(self.method),
            "scheme": self.scheme,
            "calib": [self.calib, self.calib_n],
        }
        digest = hashlib.sha256(canonical(stable).encode()).hexdigest()[:8]
        return f"{self.model}/{self.scheme or 'fp'}/{self.method.name}/{self.eval_data}/s{self.seed}-{digest}"

    def key_fields(self) -> dict[str, Any]:
        """Everything that the result may depend on, as plain JSON values.

        Raises:
            BadInput: a method without source file, or with a field that JSON cannot hold.

        """
        device = {"device": self.device, "torch": torch_version()}
        rest = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name not in ("method", "device", "code")
        }
        timed = (
            {INTEGERS} if self.scheme is not None and self.scheme.placement == "integer" else set()
        )
        source = source_hashes({*_modules(self.method), *self.code, *EVIDENCE, *timed})
        known: dict[str, Any] = json.loads(
            canonical({"method": self.method, **rest, **device, "source": source})
        )
        return known

    def key(self) -> str:
        """Sha256 of :meth:`key_fields`: equal keys mean that the run would give the same result."""
        return hashlib.sha256(canonical(self.key_fields()).encode()).hexdigest()


def canonical(value: Any) -> str:
    """JSON with sorted keys; methods bring the name and version of their class.

    Raises:
        BadInput: a value that JSON cannot hold exactly, such as NaN or a tensor.

    """
    try:
        return json.dumps(_plain(value), sort_keys=True, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as e:
        raise BadInput(
            f"{value!r} cannot be part of a cell's key: {e}; use numbers, text, tuples and dataclasses"
        ) from e


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        about = {k: getattr(value, k) for k in ("name", "version") if hasattr(type(value), k)}
        return {**about, **{f.name: _plain(getattr(value, f.name)) for f in fields(value)}}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value


def _identity(method: Any) -> Any:
    """A method without its version, so that a new version is compared with what the old one was accepted for."""
    plain = _plain(method)
    return json.loads(
        json.dumps(plain), object_hook=lambda d: {k: v for k, v in d.items() if k != "version"}
    )


def _modules(value: Any) -> set[str]:
    """Modules that define the method and the methods within it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {type(value).__module__}.union(
            *(_modules(getattr(value, f.name)) for f in fields(value))
        )
    return set().union(*map(_modules, value)) if isinstance(value, tuple | list) else set()
