"""Programs of single layers, and their latencies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from quantbench.calibration.weight_ranges import nearest_network
from quantbench.integer.backends.base import Backend, backend
from quantbench.integer.ir import Conv, Program
from quantbench.integer.lowering.lower import lower
from quantbench.latency.interleaved import interleaved
from quantbench.optimization.mixed_bits import Bits, uniform
from quantbench.quantization.method import Job
from quantbench.system import parallel


def layer_programs(program: Program) -> dict[str, Program]:
    """Every convolution and linear layer as a program of its own, by the layer's name."""
    formats, shapes, found = program.formats, program.shapes, {}
    for op in program.ops:
        if isinstance(op, Conv):
            x = formats[op.inputs[0]]
            assert x is not None
            alone = replace(op, inputs=("input",), output="output")
            found[op.name] = Program(x, shapes[op.inputs[0]], (alone,))
    return found


def layer_table(
    program: Program, backend: Backend, *, batch: int = 1, threads: int = 1, seconds: float = 0.2
) -> dict[str, float]:
    """Median milliseconds of every layer on its own: what bit allocation and genetic search read.

    The residual add that a layer may contain is left out: it does not depend on the bits.
    """
    rng, table = np.random.default_rng(0), {}
    for name, alone in layer_programs(program).items():
        x = rng.integers(alone.input.lo, alone.input.hi + 1, (batch, *alone.shape)).astype(np.uint8)
        times = interleaved(
            {name: backend.compile(alone, threads=threads)}, x, threads=threads, seconds=seconds
        )
        table[name] = float(np.median(times[name])) * 1e3
    return table


def measured(job: Job, bits: Bits) -> dict[str, float]:
    """Milliseconds of every layer of a job's network at one choice of bits, on our kernels."""
    scheme = replace(uniform(job.scheme, bits), placement="integer")
    q = nearest_network(job.net, job.calib, scheme)
    table = layer_table(lower(q), backend("native"))
    agreed = torch.tensor([*table.values()], dtype=torch.float64, device=job.net.device)
    parallel.agree([agreed])  # processes that share the work choose the same bits
    return dict(zip(table, agreed.tolist(), strict=True))
