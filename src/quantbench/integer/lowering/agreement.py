"""That an integer program computes what it was lowered from."""

from __future__ import annotations

import torch

from quantbench.errors import Unsupported
from quantbench.integer.ir import Program
from quantbench.integer.simulate import Simulation
from quantbench.quantization.quantized import Quantized

LARGEST = 1.0  # relative distance of outputs that have nothing to do with each other


def limit(bits: int) -> float:
    """Largest relative distance between the outputs of a program and of its simulation.

    Both round the same values, the simulation in floats, so that now and then a code differs by a
    step, and steps are 2^-b of a range. Correct programs were seen to differ by up to 0.09 with 8
    bits (a DeepLab of random weights; 0.006 elsewhere), 0.13 with 4 and 0.24 with 3; a lost
    activation function by 0.3 and more. Below 7 bits only what is altogether wrong is told.
    """
    return min(LARGEST, 50 * 2.0**-bits)


@torch.no_grad()
def require_agreement(program: Program, q: Quantized) -> None:
    """Run both on the network's sample.

    Raises:
        Unsupported: they differ by more than ``limit`` of the activations' bits.

    """
    (sample,) = q.net.sample
    images = sample.reshape(len(sample), *program.shape)
    ours, theirs = Simulation(program, q.net.device)(images).flatten(1), q.model(sample).flatten(1)
    bits = min((a.grid.bits for a in q.act_quants().values()), default=8)
    size = float(theirs.norm())
    off = float((ours - theirs).norm()) / size if size else float(ours.norm())
    if not off <= limit(bits):
        raise Unsupported(
            f"{q.net.name}: the integer program differs from the simulation by {off:.0%} on the "
            f"network's sample, where {limit(bits):.0%} is the most with {bits} bits: this is a "
            "fault of the lowering, please report the network; its simulation can be used"
        )
