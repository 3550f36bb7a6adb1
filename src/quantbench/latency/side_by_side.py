"""Integer networks on every runtime side by side.

How fast each is, layer by layer, and how far from the definition.

``TARGETS`` are this project's goals on a processor with AVX-512 VNNI: how many times faster than
the best of the other runtimes' 8 bits the native kernels should be. Weights are random, for the
time does not depend on them; the accuracy of a latency is measured with the claims
(``quantbench.runs.timing``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from quantbench.errors import BadInput, Unsupported
from quantbench.integer.backends.base import Array, Backend, Difference, backend, differences
from quantbench.integer.backends.intmm import IntMM
from quantbench.integer.backends.native import Native
from quantbench.integer.ir import Conv, Program
from quantbench.integer.store import size
from quantbench.latency.interleaved import float32_torch, latencies
from quantbench.latency.machine_rates import copy_rate, int8_peak
from quantbench.latency.samples import sample_program
from quantbench.latency.table import PEERS, LayerTime, Table
from quantbench.system.machine import fingerprint

# bits of weights, activations, and of both at the edges
SCHEMES: Mapping[str, tuple[int, int, int | None]] = {
    "w8a8": (8, 8, 8),
    "w4a4": (4, 4, 8),
    "w4a8": (4, 8, None),
}

PROFILES = 30  # passes of which each layer's median is taken


@dataclass(frozen=True)
class Target:
    """How much faster than the best other runtime's W8A8 each scheme is to be; 0 means no goal."""

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
    if why := Native().available():
        raise Unsupported(why)
    programs: dict[str, Program] = {}
    for scheme in target.goals:
        weights, acts, edges = SCHEMES[scheme]
        made = sample_program(target.network, weight_bits=weights, act_bits=acts, edge_bits=edges)
        model, programs[scheme], images = made
    runs, away = _ours(target, programs, images, threads, say)
    for name in PEERS:
        peer, eight = backend(name), programs["w8a8"]
        why = peer.available()
        try:
            if not why:
                away[f"{name} w8a8"] = _away(peer, eight, images)
                runs[f"{name} w8a8"] = (peer, eight)
        except Unsupported as e:
            why = str(e)
        if why:
            say(f"{target}: without {name}: {why}")
    how: dict[str, Any] = {"batches": (target.batch,), "threads": threads, "seconds": seconds}
    rows = tuple(latencies(runs, images, float32=float32_torch(model), **how))
    layers = {f"native {s}": layer_times(p, images, target.batch) for s, p in programs.items()}
    sizes = {s: size(p) for s, p in programs.items()}
    measured = (target.network, target.batch, fingerprint(), rows, away, target.goals)
    return Table(*measured, sizes, layers, int8_peak(), copy_rate())


def _ours(
    target: Target,
    programs: Mapping[str, Program],
    images: Array,
    threads: tuple[int, ...],
    say: Callable[[str], None],
) -> tuple[dict[str, tuple[Backend, Program]], dict[str, tuple[float, float]]]:
    """Our backends with their programs, and how far each is from the definition: not at all.

    Raises:
        BadInput: one that differs.

    """
    native, products = Native(), IntMM()
    runs: dict[str, tuple[Backend, Program]] = {
        f"native {s}": (native, p) for s, p in programs.items()
    }
    if why := _no_accelerator(products):
        say(f"{target}: without intmm: {why}")
    else:
        runs |= {f"intmm {s}": (products, p) for s, p in programs.items()}
    away = {}
    for count, (name, (ours, p)) in itertools.product(threads, runs.items()):
        away[name] = _away(ours, p, images, count)
        if away[name][0]:
            raise BadInput(f"{target}: {name} differs from the definition on {count} threads")
    return runs, away


def _no_accelerator(runs: IntMM) -> str | None:
    """Why matrix products are not worth timing here.

    On a processor they show that they are exact, no more.
    """
    if why := runs.available():
        return why
    return "torch finds no CUDA device here" if runs.device.type == "cpu" else None


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


def _away(runs: Backend, program: Program, images: Array, threads: int = 1) -> tuple[float, float]:
    """Largest difference of any code on one image, and the share of all codes that differ."""
    compiled = runs.compile(program, threads=threads)
    found: Mapping[str, Difference] = differences(compiled, program, images[:1])
    coded = {k: d for k, d in found.items() if program.formats[k] is not None or d.largest == 0}
    elements = {k: int(np.prod(program.shapes[k])) for k in coded}
    off = sum(d.share * elements[k] for k, d in coded.items())
    largest = max((d.largest for d in coded.values()), default=0.0)
    return largest, off / max(1, sum(elements.values()))
