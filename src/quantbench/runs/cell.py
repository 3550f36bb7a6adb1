"""Cells: one run each, with a key of everything that its result may depend on."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from quantbench.quantization.scheme import Scheme
from quantbench.runs.description import Description, canonical, describe, given
from quantbench.runs.recipe import Recipe
from quantbench.runs.source_hash import source_hashes
from quantbench.system.machine import torch_version
from quantbench.tasks.registry import module_of
from quantbench.tasks.task import Task

# every result is measured by this, and what is timed runs on the kernels
MEASURE, KERNELS = "quantbench.tasks.measure", "quantbench.integer.backends.native"

_NOT_IN_THE_KEY = ("method", "device", "task")  # as they are


@dataclass(frozen=True)
class Cell:
    """One run: a method with its hyperparameters on a network, with a scheme, data and a seed.

    Attributes:
        method: any frozen dataclass with class variables ``name`` and ``version``, or the recipe of
            one.
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
        task: the network and its data themselves, for who runs the cell.

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
    task: Task | None = field(default=None, compare=False, repr=False)

    @property
    def described(self) -> Description:
        """What identifies the method."""
        recipe = isinstance(self.method, Recipe)
        return self.method.description() if recipe else describe(self.method)

    @property
    def id(self) -> str:
        """Readable name that stays the same when code, data, torch or a default change.

        Baselines are kept under it. A field at its default is no part of it, so that a new field
        renames nothing; that a default was changed shows in the fields of the key.
        """
        method = self.described
        stable = {
            "method": method.given,
            "scheme": _plain(self.scheme)[1],
            "calib": [self.calib, self.calib_n],
        }
        digest = hashlib.sha256(canonical(stable).encode()).hexdigest()[:8]
        about = (self.model, self.scheme or "fp", method.name, self.eval_data)
        return f"{'/'.join(map(str, about))}/s{self.seed}-{digest}"

    def key_fields(self) -> dict[str, Any]:
        """Everything that the result may depend on, as plain JSON values.

        Raises:
            BadInput: a method without source file, or with a field that JSON cannot hold.

        """
        method = self.described
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _NOT_IN_THE_KEY}
        device = {"device": self.device, "torch": torch_version()}
        source = source_hashes({*method.modules, *self._modules()})
        own["scheme"] = _plain(self.scheme)[0]
        return {"method": method.plain, **own, **device, "source": source}

    def _modules(self) -> set[str]:
        """Where everything begins that a result may depend on, beside the method's own code."""
        timed = self.scheme is not None and self.scheme.placement == "integer"
        return {MEASURE, module_of(self.model), KERNELS if timed else ""} - {""}

    def key(self) -> str:
        """Sha256 of :meth:`key_fields`: equal keys mean that the run would give the same result."""
        return self._key

    @functools.cached_property
    def _key(self) -> str:
        return key_of(self.key_fields())

    def __getstate__(self) -> dict[str, Any]:
        """Without the key: where the cell arrives, the code may be another."""
        return {name: value for name, value in self.__dict__.items() if name != "_key"}


@functools.lru_cache(maxsize=1024)  # a sweep has few schemes and many cells
def _plain(scheme: Scheme | None) -> tuple[Any, Any]:
    """A scheme as plain JSON values: all of it, and what is not at its default."""
    return json.loads(canonical(scheme)), given(scheme)


def key_of(fields: Mapping[str, Any]) -> str:
    """The key of these fields."""
    return hashlib.sha256(canonical(fields).encode()).hexdigest()


def task_of(cell: Cell) -> Task:
    """What a cell is measured on; it was resolved when the cell was made."""
    assert cell.task is not None, "cells that run are made by Lab.cell"
    return cell.task
