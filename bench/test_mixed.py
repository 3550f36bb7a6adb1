"""Mixed precision on ResNet-20: BRECQ's genetic search beside the exact solution.

Both are given a limit on the size, then one on the latency.

Latencies are those of this machine's integer kernels, layer by layer, so that the choice may differ
from run to run.
"""

from __future__ import annotations

import pytest

from quantbench.bench.networks import at_hand
from quantbench.integer.lowering.lower import executable
from quantbench.methods.mixed import BRECQMixed
from quantbench.methods.nearest import Nearest
from quantbench.quantization.method import Log, Pipeline, quantize
from quantbench.quantization.scheme import Grid, Scheme
from quantbench.system.machine import fingerprint
from quantbench.system.seeds import seed_for

SCHEME = Scheme(
    Grid(4, symmetric=False, per_channel=True, range="mse"),
    Grid(8, symmetric=False, range="minmax"),
    first_last_bits=8,
)


@pytest.mark.parametrize(("gain", "limit"), [("size", 0.5), ("latency", 0.97)])
def test_the_search_against_the_exact_solution(gain: str, limit: float) -> None:
    """Within its limit, and never better than what is optimal; how far from it is printed."""
    (where, calib), log = at_hand("cifar10/resnet20", 256), Log()
    method = Pipeline((BRECQMixed(gain=gain, limit=limit, rounding="nearest"), Nearest()))
    q = quantize(method, where.network(), calib, SCHEME, seed=seed_for("method", 0), log=log)
    found, accuracy = log.numbers, where.scores(executable(q)).mean()
    bits = sorted(o.weights or 0 for o in q.scheme.overrides)
    unit = "bytes" if gain == "size" else "ms"
    cost, most = found["mixed/cost"], found["mixed/limit"]
    print(f"\nResNet-20, {gain}, on {fingerprint()}: {cost:.6g} of at most {most:.6g} {unit}")
    loss, best, gap = (found[f"mixed/{k}"] for k in ("loss/genetic", "loss/exact", "gap"))
    print(f"bits {bits}, top-1 {100 * accuracy:.2f}; loss {loss:.4g}, exact solution")
    print(f"{best:.4g}: {100 * gap:.2f} % above it")
    assert cost <= most
    assert found["mixed/gap"] >= -1e-9
    assert found["mixed/gap/highs"] <= 1e-6
