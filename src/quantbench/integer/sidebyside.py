"""Integer networks on every runtime side by side: how fast each is, layer by layer, and how far from the definition.

``TARGETS`` are this project's goals on a processor with AVX-512 VNNI: how many times faster than the best of the other
runtimes' 8 bits the native kernels should be. Weights are random, for the time does not depend on them; the accuracy of
a latency is measured with the claims (``quantbench.timing``).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from quantbench.atomic import write_atomically
from quantbench.errors import BadInput, Unsupported
from quantbench.integer.backends import Array, Backend, Difference, backend, differences
from quantbench.integer.bench import Latency, copy_rate, int8_peak, latencies, torch_reference
from quantbench.integer.ir import Conv, Program
from quantbench.integer.native import Native
from quantbench.integer.samples import sample_program
from quantbench.integer.store import size
from quantbench.machine import fingerprint

PEERS = ("onnxruntime", "openvino", "litert", "onednn")
OTHERS = (*PEERS, "torch")  # torch has a 4-bit linear layer
SCHEMES: Mapping[str, tuple[int, int, int | None]] = {  # bits of weights, activations, and of both at the edges
    "w8a8": (8, 8, 8),
    "w4a4": (4, 4, 8),
    "w4a8": (4, 8, None),
}
PROFILES = 30  # passes of which each layer's median is taken


@dataclass(frozen=True)
class Target:
    """Times faster than the best other runtime's W8A8 that the native kernels are to be, by scheme (0: no goal)."""

    network: str
    batch: int
    goals: Mapping[str, float] = field(default_factory=lambda: {"w8a8": 1.0})

    def __str__(self) -> str:
        """Such as ``cifar10/resnet20-batch1``."""
        return f"{self.network}-batch{self.batch}"


TARGETS = (
    Target("cifar10/resnet20", 1, {"w8a8": 1.8, "w4a4": 2.0}),
    Target("cifar10/resnet20", 128, {"w8a8": 1.3, "w4a4": 0}),
    Target("torchvision/resnet18", 1, {"w8a8": 1.1, "w4a4": 1.25}),
    Target("torchvision/resnet18", 32, {"w8a8": 1.0, "w4a4": 1.2}),
    Target("torchvision/mobilenet_v2", 1, {"w8a8": 1.0, "w4a8": 0}),
    Target("imagenet/mobilenetv1-0.25", 1, {"w8a8": 1.0, "w4a8": 0}),
    Target("imagenet/googlenet-bvlc", 1, {"w8a8": 1.0, "w4a8": 0}),
    Target("cifar10/resnet20", 32, {"w8a8": 0}),
    Target("torchvision/mobilenet_v2", 32, {"w8a8": 0}),
    Target("imagenet/mobilenetv1-0.25", 32, {"w8a8": 0}),
    Target("imagenet/googlenet-bvlc", 32, {"w8a8": 0}),
)


@dataclass(frozen=True)
class LayerTime:
    """One operator of the native network.

    Attributes:
        name: its module.
        kind: kernel, such as ``winograd``.
        ms: median time.
        macs: multiply-accumulates of the definition, whatever the kernel saves; 0 where there are none.
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
        peers = [r.p50 for r in self.rows if r.what.split()[0] in OTHERS and r.threads == row.threads]
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
            values["layers"] = {k: tuple(LayerTime(**t) for t in v) for k, v in values["layers"].items()}
            return cls(**values)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as e:
            raise BadInput(f"{path}: not a latency table ({type(e).__name__}: {e})") from e


def measure(
    target: Target, *, seconds: float = 6.0, threads: tuple[int, ...] = (1,), say: Callable[[str], None] = print
) -> Table:
    """Time a target's network on every runtime that is installed, in one interleaved run.

    Args:
        target: what to time.
        seconds: for each number of threads.
        threads: numbers of threads.
        say: told which runtimes are left out, and why.

    Raises:
        Unsupported: no native kernels here.
        BadInput: a native network that differs from the definition.

    """
    native = Native()
    if why := native.available():
        raise Unsupported(why)
    programs: dict[str, Program] = {}
    for scheme in target.goals:
        weights, acts, edges = SCHEMES[scheme]
        made = sample_program(target.network, weight_bits=weights, act_bits=acts, edge_bits=edges)
        model, programs[scheme], images = made
    eight = programs["w8a8"]
    runs: dict[str, tuple[Backend, Program]] = {f"native {s}": (native, p) for s, p in programs.items()}
    away = {}
    for count, (name, (_, p)) in itertools.product(threads, runs.items()):
        away[name] = _away(native, p, images, count)
        if away[name][0]:
            raise BadInput(f"{target}: {name} differs from the definition on {count} threads")
    for name in PEERS:
        peer = backend(name)
        why = peer.available()
        try:
            if not why:
                away[f"{name} w8a8"] = _away(peer, eight, images)
                runs[f"{name} w8a8"] = (peer, eight)
        except Unsupported as e:
            why = str(e)
        if why:
            say(f"{target}: without {name}: {why}")
    rows = latencies(runs, images, reference=torch_reference(model), batches=(target.batch,), threads=threads,
                     seconds=seconds)  # fmt: skip
    layers = {f"native {s}": layer_times(p, images, target.batch) for s, p in programs.items()}
    sizes = {s: size(p) for s, p in programs.items()}
    return Table(target.network, target.batch, fingerprint(), tuple(rows), away, target.goals, sizes, layers,
                 int8_peak(), copy_rate())  # fmt: skip


def layer_times(program: Program, images: Array, batch: int) -> tuple[LayerTime, ...]:
    """Median time of the network input and of every operator of the native network, one thread."""
    compiled, shapes = Native().compile(program), program.shapes
    x = np.ascontiguousarray(np.resize(images, (batch, *images.shape[1:])))
    passes = [compiled.layers(x, 1) for _ in range(PROFILES)]
    ms = np.median([[seconds for _, _, seconds in rows] for rows in passes], axis=0) * 1e3
    ops, found = {op.output: op for op in program.ops}, []
    outputs = {op.name: op.output for op in program.ops}
    for (name, kind, _), t in zip(passes[0], ms, strict=True):
        op = ops.get(outputs.get(name, ""))
        if op is None:
            found.append(LayerTime(name, kind, float(t), 0, 0))
            continue
        moved = batch * sum(int(np.prod(shapes[i])) for i in (*op.inputs, op.output))
        macs = 0
        if isinstance(op, Conv):
            macs = batch * int(op.weight[0].size * np.prod(shapes[op.output]))
            moved += op.weight.size
        found.append(LayerTime(name, kind, float(t), macs, moved))
    return tuple(found)


def lines(table: Table) -> list[str]:
    """The table as text, fastest first."""
    head = f"{'':22}{'threads':>8}{'p50 ms':>10}{'p90':>10}{'p99':>10}{'best':>10}{'x fp32':>8}{'x peer':>8}{'goal':>6}"
    found = [f"{table.network}, batch {table.batch}, on {table.machine}", f"{head}{'steps off':>11}{'share':>9}"]
    for r in sorted(table.rows, key=lambda r: (r.threads, r.p50)):
        text = f"{r.what:22}{r.threads:8}{r.p50:10.3f}{r.p90:10.3f}{r.p99:10.3f}{r.best:10.3f}{r.speedup:8.2f}"
        goal = table.goals.get(r.what.removeprefix("native "), 0.0)
        text += f"{table.ratio(r):8.2f}{f'{goal:.2f}' if goal else '':>6}" if r.what.startswith("native") else " " * 14
        if r.what in table.away:
            largest, share = table.away[r.what]
            text += f"{largest:11.0f}{share:9.1%}"
        found.append(text)
    sizes = ", ".join(f"{s} {n:,}" for s, n in table.sizes.items())
    return [*found, f"bytes saved: {sizes}; one core multiplies {2e-9 * table.peak:.0f} GOP/s at most"]


def _away(runs: Backend, program: Program, images: Array, threads: int = 1) -> tuple[float, float]:
    """Largest difference of any tensor of codes on one image, and the share of all codes that differ."""
    found: Mapping[str, Difference] = differences(runs.compile(program, threads=threads), program, images[:1])
    coded = {k: d for k, d in found.items() if program.formats[k] is not None or d.largest == 0}
    elements = {k: int(np.prod(program.shapes[k])) for k in coded}
    off = sum(d.share * elements[k] for k, d in coded.items())
    return max((d.largest for d in coded.values()), default=0.0), off / max(1, sum(elements.values()))
