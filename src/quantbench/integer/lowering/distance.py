"""How far a whole program's output is from the float network's.

``agreement`` compares every operator on the simulation's own values, so it sees neither what adds
up from operator to operator nor a simulation that is itself another function.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from quantbench.errors import Unsupported
from quantbench.integer.ir import Program
from quantbench.integer.lowering.agreement import values_of
from quantbench.integer.simulate import Simulation
from quantbench.quantization.quantized import Quantized

# Root mean square of the outputs' differences, as a part of the float network's outputs. Of about
# 90 networks with random weights at 8 bits, 0.31 was the most (transformers); what has nothing to
# do with the right outputs is off by more than all of them.
FARTHEST = 0.5

LEAST_BITS = 8  # of every grid: fewer may cost anything


@torch.no_grad()
def require_near(program: Program, q: Quantized, simulated: Tensor) -> None:
    """Run the program on the network's sample, and see that it gives what the network gives.

    Args:
        program: what ``q`` was lowered to.
        q: with it, the float network.
        simulated: what the simulation gives for the sample.

    Raises:
        Unsupported: the program is far off, and the simulation is not half as far.

    Warns:
        UserWarning: both are: 8 bits may cost as much, or the quantized network is another
            function; names the first tensor that is as far off.

    """
    if _fewest_bits(q) < LEAST_BITS:
        return
    (sample,), right = q.net.sample, q.net.sample_output
    images = sample.reshape(len(sample), *program.shape).float()
    run = Simulation(program, q.net.device)
    off = _part(run(images), right)
    if off <= FARTHEST:
        return
    told = (
        f"{q.net.name}: the integer program's output differs from the float network's by "
        f"{off:.0%} on the network's sample"
    )
    if _part(simulated, right) <= FARTHEST / 2:
        raise Unsupported(
            f"{told}, and the simulation's by {_part(simulated, right):.0%}: this is a fault of "
            "the lowering, please report the network; its simulation can be used"
        )
    warnings.warn(
        f"{told}, where 8 bits seldom cost more than {FARTHEST:.0%}; the first tensor that is as "
        f"far off is {_first_far(run, q, images)}",
        stacklevel=3,
    )


def _fewest_bits(q: Quantized) -> int:
    weights = [q.weight_grid(info.name).bits for info in q.infos]
    return min([*weights, *(act.grid.bits for act in q.act_quants().values())])


def _part(found: Tensor, right: Tensor) -> float:
    """Distance as a part of what is right; two zeros, or infinities, are no distance apart."""
    found = found.reshape(right.shape)
    differences = (found - right).masked_fill(found == right, 0.0)
    off, size = (t.double().norm() for t in (differences, right[right.isfinite()]))
    return float(off / size) if off else 0.0


def _first_far(run: Simulation, q: Quantized, images: Tensor) -> str:
    """The first tensor of the program that is far from the float network's."""
    exact, _ = values_of(Quantized(q.net, q.scheme), q.net.sample[0])  # its quantizers are off
    for name, codes in run.codes(images).items():
        y = run.program.formats[name]
        if y is not None and name in exact:
            values = (codes.float() - y.zero) * y.scale
            if _part(values, exact[name]) > FARTHEST:
                return f"{name!r}"
    return "the output itself"
