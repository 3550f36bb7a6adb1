"""A program for ``torchrun``: writes digest and error of each method to a file per process."""

import os
import sys
from pathlib import Path

import torch

from quantbench.methods.adaround import AdaRound
from quantbench.methods.bias import BFT
from quantbench.methods.brecq import BRECQ
from quantbench.methods.gramround import GramRound
from quantbench.methods.nearest import Nearest
from quantbench.methods.qdrop import QDrop
from quantbench.methods.qubo import Qubo
from quantbench.quantization.method import Pipeline, quantize
from quantbench.quantization.scheme import Grid, Scheme
from tests.helpers.small import small

W3A4 = Scheme(Grid(3, per_channel=True), Grid(4, symmetric=False))
METHODS = (
    AdaRound(iterations=40, lr=0.03),
    BRECQ(iterations=60, lr=0.03, act_iterations=3, loss="mse"),
    QDrop(iterations=60, lr=0.03),
    GramRound(width=8, moves=20),
    Qubo(samples=100, elite=0.1, steps=10, hessian="task", draws=5),
    Pipeline((Nearest(), BFT(images=80, batch_size=16, lr=0.05))),
)


def outcome(method, scratch=None):
    """Digest, and error at the network's output."""
    net, x = small()
    q = quantize(method, net, x, W3A4, scratch=scratch)
    return q.digest, float((q.fake()(x) - net.model(x)).square().mean())


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    lines = [f"{m.name} {'{} {}'.format(*outcome(m, out / 'scratch' / m.name))}" for m in METHODS]
    (out / f"rank-{os.environ['RANK']}").write_text("\n".join(lines))
