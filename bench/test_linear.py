"""A linear layer on one vector: our packed 4-bit weights beside 8 bits and other runtimes."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantbench.errors import Unsupported
from quantbench.integer import store
from quantbench.integer.backends.native import Native
from quantbench.latency import linear
from quantbench.latency.machine_rates import copy_rate, int8_peak
from quantbench.latency.table import Table, lines
from quantbench.latency.targets import LINEAR
from quantbench.system.machine import fingerprint


@pytest.mark.parametrize(("inputs", "outputs"), [(768, 3072), (3072, 768)])
def test_linear_layer(inputs: int, outputs: int, request: pytest.FixtureRequest) -> None:
    """W8A8 beside the others' 8 bits, W4A8 beside their 4 bits and, 1.8 times faster, our W8A8."""
    option = request.config.getoption
    try:
        rows = linear.measure(inputs, outputs, seconds=option("qb_seconds"))
    except Unsupported as e:
        pytest.skip(str(e))
    sizes = {f"w{b}a8": store.size(linear.program(inputs, outputs, b)) for b in (8, 4, 2)}
    name = f"linear/{inputs}x{outputs}"
    isa = Native().compile(linear.program(inputs, outputs, 8)).isa
    goals, rates = LINEAR.get(isa, {}), (int8_peak(), copy_rate())
    table = Table(name, 1, fingerprint(), tuple(rows), {}, goals, sizes, {}, *rates, isa=isa)
    table.save(Path(option("qb_runs")) / "latency")
    p50 = {r.what: r.p50 for r in rows}
    own = ", ".join(
        f"{w} {p50['native w8a8'] / p50[w]:.2f}" for w in ("native w4a8", "native w2a8")
    )
    print(
        "\n"
        + "\n".join(lines(table))
        + f"\ntimes faster than native w8a8 (goal of w4a8: 1.80): {own}"
    )
