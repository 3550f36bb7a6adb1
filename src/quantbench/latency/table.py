"""What ``quantbench latency`` measures, as a value: a file of it, and its text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from quantbench.errors import BadInput
from quantbench.latency.interleaved import Latency
from quantbench.system.atomic import write_atomically

PEERS = ("onnxruntime", "openvino", "litert", "onednn")

OTHERS = (*PEERS, "torch")  # torch has a 4-bit linear layer


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
        goals: the target's.
        sizes: bytes of the saved network, by scheme.
        layers: of the native rows on one thread.
        peak: multiply-accumulates a second of one core in registers, measured on the spot.
        copy: bytes a second of a large copy, measured on the spot.

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

    def ratio(self, row: Latency) -> float:
        """Median of the best other runtime over this row's, on as many threads; NaN without one."""
        alike = [r for r in self.rows if r.threads == row.threads]
        peers = [r.p50 for r in alike if r.what.split()[0] in OTHERS]
        return min(peers) / row.p50 if peers else float("nan")

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
            return cls(**values)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as e:
            raise BadInput(f"{path}: not a latency table ({type(e).__name__}: {e})") from e


def lines(table: Table) -> list[str]:
    """The table as text, fastest first."""
    times = f"{'p50 ms':>10}{'p90':>10}{'p99':>10}{'best':>10}"
    head = f"{'':22}{'threads':>8}{times}{'x fp32':>8}{'x peer':>8}{'goal':>6}"
    found = [
        f"{table.network}, batch {table.batch}, on {table.machine}",
        f"{head}{'steps off':>11}{'share':>9}",
    ]
    for r in sorted(table.rows, key=lambda r: (r.threads, r.p50)):
        times = f"{r.p50:10.3f}{r.p90:10.3f}{r.p99:10.3f}{r.best:10.3f}"
        text = f"{r.what:22}{r.threads:8}{times}{r.speedup:8.2f}"
        goal = table.goals.get(r.what.removeprefix("native "), 0.0)
        text += (
            f"{table.ratio(r):8.2f}{f'{goal:.2f}' if goal else '':>6}"
            if r.what.startswith("native")
            else " " * 14
        )
        if r.what in table.away:
            largest, share = table.away[r.what]
            text += f"{largest:11.0f}{share:9.1%}"
        found.append(text)
    sizes = ", ".join(f"{s} {n:,}" for s, n in table.sizes.items())
    return [
        *found,
        f"bytes saved: {sizes}; one core multiplies {2e-9 * table.peak:.0f} GOP/s at most",
    ]
