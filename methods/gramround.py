"""Rounding by integer least squares: AdaRound's objective solved instead of descended.

Without f_a the objective of AdaRound (Nagel et al. 2020, eq. 25) is a quadratic form in the
weights,

    E || W x - W^ x^ ||^2 = sum over rows of  d H d^T + 2 d r^T + constant,    d = w^ - w,

with H = E[x^ x^^T] and R = E[(W x^ - W x) x^^T]. So the calibration images are seen once, to gather
H and R, and what is left is an integer least-squares problem in as many unknowns as a row has
weights, with all codes of the grid to choose from and not only the two neighbours. It is solved by
a beam along the Cholesky factor of H, coordinate descent and tabu search. Activation functions are
not handled: what a ReLU would hide counts in full.

Nothing of this is new but the combination. A beam of width 1 is Babai's nearest plane, which GPTQ
(Frantar et al., ICLR 2023, arXiv 2210.17323) was shown to be (Chen et al. 2025, arXiv 2507.18553);
coordinate descent over the codes is QuantEase (Behdin et al. 2023, arXiv 2309.01885); taking
x^ and the mean of the error into account are AdaRound's and bias correction's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from quantbench import BadInput, Job, Method, Network, Scheme, weight_range
from quantbench.calibration.layer_moments import Moments, moments
from quantbench.calibration.walk import Walk
from quantbench.calibration.weight_ranges import learnt_layers
from quantbench.optimization.finished_steps import FinishedSteps
from quantbench.quantization.grids import QParams
from quantbench.quantization.layers import QuantLayer
from quantbench.search.lattice import beam, damped, descend, tabu

BEAM_VALUES = 2**26  # partial roundings kept at a time: 256 MiB


@dataclass(frozen=True)
class GramRound(Method):
    """Minimise each layer's reconstruction error over all its codes.

    Attributes:
        width: partial roundings kept for each row; fewer where they would not fit in memory.
        moves: steps of tabu search at the end.
        descent: coordinate descent from what the beam found. Without it and without moves, a beam
            of width 1 is GPTQ.
        damping: share of H's diagonal added to it.
        asymmetric: reconstruct from x^ of the quantized predecessors instead of x.
        neighbours: only floor(W/s) and the code above it may be chosen, as in AdaRound (eq. 22);
            otherwise every code of the grid, which is more than AdaRound chooses from.
        refits: how often the steps of the grid are fitted to the codes and the codes solved for
            again; 0 keeps the grid of the scheme's range estimator, as AdaRound does.
        bias: take the mean of the rounding error out of the objective and into the bias.

    """

    name: ClassVar[str] = "gramround"

    width: int = 16
    moves: int = 500
    descent: bool = True
    damping: float = 1e-5
    asymmetric: bool = True
    neighbours: bool = False
    refits: int = 0
    bias: bool = False

    def __post_init__(self) -> None:
        """Reject sizes that mean nothing."""
        if self.width < 1 or self.moves < 0 or self.refits < 0 or self.damping < 0:
            raise BadInput(
                "gramround: width is at least 1; moves, refits and damping are not negative"
            )

    def unsupported(self, net: Network, scheme: Scheme) -> str | None:  # noqa: ARG002 - the base's signature
        """The search goes from code to next code, so it needs consecutive ones."""
        if scheme.weights.kind == "uniform":
            return None
        return "integer least squares here is for uniform grids"

    def apply(self, job: Job) -> Job:
        """Layer by layer, each with the already quantized ones before it."""
        q = job.start()
        finished, walk = FinishedSteps(job, self), Walk(q, job.calib, asymmetric=self.asymmetric)
        layers = learnt_layers(q, walk.calib)
        for i, layer in enumerate(layers):
            name = layer.info.name
            job.progress(i, len(layers), f"gramround {name}")
            qp = weight_range(q, layer, walk.calib)
            done = finished.load(name)
            if done is None:
                walk.to(name)
                m = moments(layer, walk.before.inputs_of(name)[0], walk.full.output_of(name))
                done = self.round_layer(layer, qp, m, job)
                finished.save(name, done)
            layer.set_codes(done["codes"], QParams(done["scale"], qp.zero, qp.levels))
            layer.bias.data = done["bias"]
        q.calibrate_acts(job.calib)
        return job.done(q)

    def round_layer(
        self, layer: QuantLayer, qp: QParams, all_moments: Moments, job: Job
    ) -> dict[str, Tensor]:
        """Codes, scale and bias of a layer that minimise the objective."""
        shape, m = layer.original.shape, all_moments.centred() if self.bias else all_moments
        w, h = layer.original.view_as(m.r), damped(m.h, self.damping)
        ideal = w - torch.linalg.solve(h, m.r.mT).mT.float()  # where the quadratic form is smallest
        scale, zero = (  # (groups, rows, 1)
            t.expand(shape[0], *t.shape[1:]).reshape(*w.shape[:2], 1) for t in (qp.scale, qp.zero)
        )
        grid = QParams(scale, zero, qp.levels)
        codes = self.search(ideal, w, grid, h, job.rng)
        for _ in range(self.refits):
            scale = _fit_scale(codes - zero, ideal, h, scale, per_channel=qp.scale.numel() > 1)
            grid = QParams(scale, zero, qp.levels)
            codes = self.search(ideal, w, grid, h, job.rng)
        d = grid.dequantize(codes) - w
        low, high = grid.bracket(w)
        away = float(((codes != low) & (codes != high)).float().mean())
        job.log.numbers |= {
            f"objective/{layer.info.name}": m.error(d),
            f"no_neighbours/{layer.info.name}": away,
        }
        bias = layer.bias + all_moments.bias(d) if self.bias else layer.bias
        scale = scale.flatten()[: qp.scale.numel()].view_as(qp.scale)
        return {"codes": codes.view(shape), "scale": scale, "bias": bias}

    def search(
        self, ideal: Tensor, w: Tensor, grid: QParams, h: Tensor, rng: torch.Generator
    ) -> Tensor:
        """Codes near the best ones for (groups, rows, n) weights whose best value is ``ideal``."""
        u = ideal / grid.scale + grid.zero
        low, high = grid.bracket(w) if self.neighbours else (grid.levels[0], grid.levels[-1])
        width = max(1, min(self.width, BEAM_VALUES // u.numel()))
        codes = beam(u, h, low, high, width)  # whose Cholesky factor needs float64
        h = h.to(u)
        codes = descend(codes, u, h, low, high) if self.descent else codes
        return tabu(codes, u, h, low, high, self.moves, rng)


def _fit_scale(e: Tensor, ideal: Tensor, h: Tensor, old: Tensor, *, per_channel: bool) -> Tensor:
    """(groups, rows, 1) scales s of least (s e - w)^T H (s e - w), or the old if not positive."""
    through = e @ h.to(e)
    top, bottom = (through * ideal).sum(2, keepdim=True), (through * e).sum(2, keepdim=True)
    if not per_channel:
        top, bottom = top.sum().expand_as(top), bottom.sum().expand_as(bottom)
    return torch.where((bottom > 0) & (top > 0), top / bottom, old)
