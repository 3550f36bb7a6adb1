"""Text networks on their evaluation texts, every linear layer in integers.

Simulation, oracle and native kernels are compared.

``pytest -c bench/pytest.ini bench/test_exact_text.py -s [-k EXPR] [--qb-oracle N] [--qb-threads
N]``, where N of ``--qb-oracle`` is in rows of a layer's input.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
import torch

from quantbench.errors import DataMissing
from quantbench.evidence.result import Result
from quantbench.integer import oracle
from quantbench.integer.backends.base import Array
from quantbench.integer.backends.native import Native
from quantbench.integer.ir import Program
from quantbench.integer.lowering.linears import Run, on_integers
from quantbench.integer.simulate import Simulation
from quantbench.methods.nearest import Nearest
from quantbench.quantization.scheme import Grid, Scheme

CALIBRATION = 64
TEXTS = {"qa/bert": ("qa/test", "qa/calib"), "stsb/minilm": ("stsb/test", "stsb/train")}
ACTS = Grid(8, symmetric=False, range="minmax")


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("model", TEXTS)
def test_no_number_of_a_linear_layer_differs(
    model: str, bits: int, request: pytest.FixtureRequest
) -> None:
    """Outputs are float32; all three must have the same bits."""
    from quantbench.quantization.method import quantize
    from quantbench.tasks.registry import task

    option, (data, calib) = request.config.getoption, TEXTS[model]
    if why := Native().available():
        pytest.skip(why)
    try:
        where = task(model, data)
        net, calibration = where.network(), where.calibration(calib, CALIBRATION, 0)
    except DataMissing as e:
        pytest.skip(str(e))
    scheme = Scheme(Grid(bits, per_channel=True, range="mse"), ACTS)
    q = quantize(Nearest(), net, calibration, scheme)
    numbers: Counter[str] = Counter()
    different: Counter[str] = Counter()
    rows, threads = option("qb_oracle"), option("qb_threads") or os.cpu_count() or 1

    def make(name: str, program: Program) -> Run:
        simulation, native = Simulation(program), Native().compile(program, threads=threads)

        def run(x: Array) -> Array:
            y: Array = simulation(torch.from_numpy(x)).numpy()
            different[f"native {name}"] += int((native(x) != y).sum())
            part = max(0, rows - numbers[name] // y.shape[1]) if rows else len(x)
            if part:
                exact = oracle.run(program, x[:part])[program.output].reshape(-1, y.shape[1])
                different[f"oracle {name}"] += int((exact != y[:part]).sum())
            numbers[name] += y.size
            return y

        return run

    found = where.scores(on_integers(q, make))
    result = Result.of(
        where.scores(q.fake()), found, q.digest, metric=where.metric, gold=where.gold()
    )
    total, wrong = sum(numbers.values()), {k: n for k, n in different.items() if n}
    print(f"\n{model} {scheme}: {len(numbers)} linear layers, {len(found)} examples,", end=" ")
    print(f"{total:,} numbers compared")
    scored = f"{result.metric} {result.q_top1:.2f} on integers, {result.fp_top1:.2f} simulated"
    print(f"different: {wrong or 'none'}; {scored}")
    assert total > 0
    assert not wrong
