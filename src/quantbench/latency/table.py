"""What ``quantbench latency`` measures, as a value: a file of it, and its text."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from quantbench.errors import BadInput
from quantbench.latency.accuracy import Accuracy
from quantbench.latency.interleaved import Latency
from quantbench.system.atomic import write_atomically

PEERS = ("onnxruntime", "openvino", "litert", "onednn")

OTHERS = (*PEERS, "torch")  # torch has a 4-bit linear layer

EXACT = " exact"  # ends the row of a runtime in a mode that cannot saturate

# ends of rows that no ratio is taken to: slower modes, and other networks
ASIDE = (EXACT, " w7a8")


# whatever a file that anyone may have written can bring about
DAMAGE = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError),
    RecursionError,
)


@dataclass(frozen=True)
class LayerTime:
    """One operator of the native network.

    Attributes:
        name: its module.
        kind: kernel, such as ``winograd``.
        ms: median time.
        macs: multiply-accumulates of the definition, whatever the kernel saves; 0 where there are
            none.
        bytes: weights, inputs and outputs, each once.

    """

    name: str
    kind: str
    ms: float
    macs: int
    bytes: int


@dataclass(frozen=True)
class Table:
    """What one interleaved run measured.

    Attributes:
        network: its name.
        batch: images a call.
        machine: fingerprint.
        rows: times of every runtime.
        away: largest difference from the definition, and share of codes that differ, by row.
        goals: the target's, on this instruction set.
        sizes: bytes of the saved network, by scheme.
        layers: of the native rows on one thread.
        peak: multiply-accumulates a second of one core in registers, measured on the spot.
        copy: bytes a second of a large copy, measured on the spot.
        isa: instruction set of the native rows.
        weights: ``trained`` or ``random``.
        accuracy: on real images, by row.

    """

    network: str
    batch: int
    machine: str
    rows: tuple[Latency, ...]
    away: Mapping[str, tuple[float, float]]
    goals: Mapping[str, float]
    sizes: Mapping[str, int]
    layers: Mapping[str, tuple[LayerTime, ...]]
    peak: float
    copy: float
    isa: str = ""
    weights: str = "random"
    accuracy: Mapping[str, Accuracy] = field(default_factory=dict)

    def ratio(self, row: Latency) -> float:
        """Median of the best other runtime over this row's, on as many threads; NaN without one.

        The others in their fastest modes; of those with weights of as many bits if there are any.
        """
        peers = [
            r
            for r in self.rows
            if r.threads == row.threads
            and r.what.split()[0] in OTHERS
            and not r.what.endswith(ASIDE)
        ]
        bits = row.what.split()[1][:2]
        nearest = [r for r in peers if r.what.split()[1][:2] == bits] or peers
        return min(r.p50 for r in nearest) / row.p50 if peers else float("nan")

    def save(self, folder: Path) -> Path:
        """Keep it as JSON, in place of an older one of the same network, batch and threads."""
        threads = "-".join(str(t) for t in sorted({r.threads for r in self.rows}))
        path = folder / f"{self.network.replace('/', '-')}-batch{self.batch}-threads{threads}.json"
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(asdict(self), indent=1))
        return path

    @classmethod
    def load(cls, path: Path) -> Table:
        """Read what :meth:`save` wrote; raises BadInput for anything else."""
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            values["rows"] = tuple(Latency(**r) for r in values["rows"])
            values["away"] = {k: (float(v[0]), float(v[1])) for k, v in values["away"].items()}
            values["layers"] = {
                k: tuple(LayerTime(**t) for t in v) for k, v in values["layers"].items()
            }
            tested = values.get("accuracy", {})
            values["accuracy"] = {k: Accuracy(**v) for k, v in tested.items()}
            found = cls(**values)
            parts = (*found.rows, *itertools.chain(*found.layers.values()))
            for part in (found, *parts, *found.accuracy.values()):
                _require_kinds(part)
            if not all(ms > 0 for r in found.rows for ms in (r.p50, r.p90, r.p99, r.best)):
                raise ValueError("a time is not above zero")
            lines(found)  # what cannot be shown is none
        except DAMAGE as e:
            raise BadInput(f"{path}: not a latency table ({type(e).__name__}: {e})") from e
        return found


_KINDS: Mapping[Any, Any] = {str: str, int: int, float: int | float}


def _require_kinds(part: Any) -> None:
    """Raise TypeError where a text or number of a dataclass is something else."""
    for name, hint in get_type_hints(type(part)).items():
        if hint in _KINDS and not isinstance(getattr(part, name), _KINDS[hint]):
            raise TypeError(f"{name} is {getattr(part, name)!r}, no {hint.__name__}")


def lines(table: Table) -> list[str]:
    """The table as text, fastest first."""
    times = f"{'p50 ms':>10}{'p90':>10}{'p99':>10}{'best':>10}"
    head = f"{'':24}{'threads':>8}{times}{'x fp32':>8}{'x peer':>8}{'goal':>6}"
    tested = f"{'top-1':>8}{'same':>8}" if table.accuracy else ""
    found = [
        f"{table.network}, batch {table.batch}, {table.weights} weights, on {table.machine}",
        f"{head}{'steps off':>11}{'share':>9}{tested}",
    ]
    ordered = sorted(table.rows, key=lambda r: (r.threads, r.p50))
    found += [_line(table, r).rstrip() for r in ordered]
    if table.accuracy:
        images = next(iter(table.accuracy.values())).images
        found.append(f"top-1 of {images} images; same: share with the definition's class")
    sizes = ", ".join(f"{s} {n:,}" for s, n in table.sizes.items())
    goals = f"; goals are those of {table.isa}" if table.goals else ""
    return [
        *found,
        f"bytes saved: {sizes}; one core multiplies {2e-9 * table.peak:.0f} GOP/s at most{goals}",
    ]


def _line(table: Table, r: Latency) -> str:
    """One row as text."""
    times = f"{r.p50:10.3f}{r.p90:10.3f}{r.p99:10.3f}{r.best:10.3f}"
    text = f"{r.what:24}{r.threads:8}{times}{r.speedup:8.2f}"
    goal = table.goals.get(r.what.removeprefix("native "), 0.0)
    text += (
        f"{table.ratio(r):8.2f}{f'{goal:.2f}' if goal else '':>6}"
        if r.what.startswith("native")
        else " " * 14
    )
    if r.what in table.away:
        largest, share = table.away[r.what]
        text += f"{largest:11.0f}{share:9.1%}"
    else:
        text += " " * 20
    if r.what in table.accuracy:
        accuracy = table.accuracy[r.what]
        text += f"{100 * accuracy.top1:8.2f}{accuracy.same:8.1%}"
    return text
