"""Integer networks on every runtime side by side.

How fast each is, layer by layer, how far from the definition, and how well it classifies real
images. Goals are in :mod:`quantbench.latency.targets`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import nn

from quantbench.errors import DataMissing, Unsupported
from quantbench.integer.backends.base import Array
from quantbench.integer.backends.native import Native
from quantbench.integer.ir import Conv, Program
from quantbench.integer.store import size
from quantbench.latency.accuracy import Accuracy, accuracies
from quantbench.latency.interleaved import FLOAT32, Runner, float32_torch, latencies
from quantbench.latency.machine_rates import copy_rate, int8_peak
from quantbench.latency.runtimes import SEVEN, Runs, all_runs
from quantbench.latency.samples import sample
from quantbench.latency.table import LayerTime, Table
from quantbench.latency.targets import Target
from quantbench.system.machine import fingerprint

PROFILES = 30  # passes of which each layer's median is taken


def measure(
    target: Target,
    *,
    seconds: float = 6.0,
    threads: tuple[int, ...] = (1,),
    say: Callable[[str], None] = print,
) -> Table:
    """Time a target's network on every runtime that is installed, in one interleaved run.

    Args:
        target: what to time.
        seconds: for each number of threads.
        threads: numbers of threads.
        say: told which runtimes are left out, and why.

    Raises:
        Unsupported: no native kernels here.
        BadInput: a native network, or one of intmm, that differs from the definition.

    """
    native = Native()
    if why := native.available():
        raise Unsupported(why)
    found = sample(target.network)
    programs = {scheme: found.program(scheme) for scheme in target.schemes}
    seven = found.program(SEVEN) if target.tested else None
    runs = all_runs(programs, seven, found.images, threads, lambda why: say(f"{target}: {why}"))
    isa = native.compile(programs["w8a8"]).isa
    model = found.net.model
    how: dict[str, Any] = {"batches": (target.batch,), "threads": threads, "seconds": seconds}
    rows = latencies(runs.programs, found.images, float32=float32_torch(model), **how)
    times = {f"native {s}": layer_times(p, found.images, target.batch) for s, p in programs.items()}
    return Table(
        network=target.network,
        batch=target.batch,
        machine=fingerprint(),
        rows=tuple(rows),
        away=runs.away,
        goals=target.goals_of(isa),
        sizes={s: size(p) for s, p in programs.items()},
        layers=times,
        peak=int8_peak(),
        copy=copy_rate(),
        isa=isa,
        weights=found.weights,
        accuracy=_accuracy(target, runs, model, say) if found.weights == "trained" else {},
    )


def _accuracy(
    target: Target, runs: Runs, model: nn.Module, say: Callable[[str], None]
) -> Mapping[str, Accuracy]:
    """Of every row, and in full precision; nothing where it is not asked for or cannot be had."""
    if not target.tested:
        return {}
    runners: dict[str, Runner] = {FLOAT32: float32_torch(model)(1)}
    runners |= {name: runtime.compile(p) for name, (runtime, p) in runs.programs.items()}
    try:
        return accuracies(target.network, runners, target.tested)
    except DataMissing as e:
        say(f"{target}: without accuracies: {e}")
        return {}


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
