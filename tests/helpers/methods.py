"""Every reconstruction with few steps, and a scheme each, for tests that all of them must pass."""

import pytest

from quantbench.methods.adaround import AdaRound
from quantbench.methods.brecq import BRECQ
from quantbench.methods.gramround import GramRound
from quantbench.methods.qdrop import QDrop
from quantbench.methods.qubo import Qubo
from quantbench.quantization.scheme import Grid, Scheme

W3 = Scheme(Grid(3, per_channel=True))
W3A4 = Scheme(Grid(3, per_channel=True), Grid(4, symmetric=False))
METHODS = {
    "adaround": (AdaRound(iterations=12), W3),
    "brecq": (BRECQ(iterations=12, act_iterations=4), W3A4),
    "qdrop": (QDrop(iterations=12), W3A4),
    "qubo": (Qubo(samples=50, elite=0.1, steps=5), W3),
    "gramround": (GramRound(width=4, moves=10), W3),
}
every_method = pytest.mark.parametrize(("method", "scheme"), METHODS.values(), ids=METHODS)
