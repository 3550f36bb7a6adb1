"""AdaQuant: layer-wise calibration (Hubara et al., ICML 2021, arXiv 2006.10518, section 3.1).

Each layer learns everything that its quantized form has: W' = W + V, its bias b, and range and zero
point of weights and of input activations. The paper's symbols: W weight, X the layer's input, V the
continuous change of the weights, Delta_w and Delta_x the steps. Roundings pass gradients straight
through, so weights may move past their neighbouring levels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim import Adam

from quantbench import Job, Method, Paper, Quantized, weight_range
from quantbench.calibration.memory import CHUNK, Activations, Memory
from quantbench.calibration.walk import Progressive
from quantbench.calibration.weight_ranges import learnt_layers
from quantbench.network.activation_functions import following_functions
from quantbench.network.hooks import forward
from quantbench.optimization.descent import Descent, Objective, Part, fit
from quantbench.optimization.finished_steps import FinishedSteps
from quantbench.optimization.learnt_ranges import Range, Settle
from quantbench.optimization.reconstruction import squared_error
from quantbench.quantization import papers
from quantbench.quantization.grids import QParams
from quantbench.quantization.layers import QuantLayer
from quantbench.system import parallel


@dataclass(frozen=True)
class AdaQuant(Method):
    """Learn weights, bias, and the ranges of weights and input activations, layer by layer.

    The learning rates are those of the authors' code, which says that they were tuned for 8 bits;
    its command-line options for them have no effect. What is ours, not theirs: biases are learnt
    and kept in full precision (there: rounded to as many bits as weights and inputs have together);
    the error is summed over channels (there: averaged, which Adam does not see); where a range
    begins is the scheme's (there: the inputs' is the mean over images of each image's extremes).

    Attributes:
        iterations: optimisation steps per layer.
        batch_size: calibration examples per step.
        lr_weights: Adam's learning rate for V.
        lr_bias: the same for b.
        lr_acts: the same for range and zero point of the input, in its own unit. A range is kept
            to hold 0; in the released code one whose lower end left 0 learns no zero point any
            more.
        lr_ranges: the same for range and zero point of the weights.
        sequential: calibrate on inputs from the quantized predecessors (eq. 4), all of them; else
            on those of the full-precision network, all layers for themselves (eq. 2). The released
            code's sequential form replaces the inputs of the first of its batches alone.
        relu: include the activation function that follows. The released code does so by the names
            of layers, a residual block's last one among them, whose ReLU comes behind the sum: that
            one has none here.
        settle: let learning rates fall to 0 by a cosine, and end with the best parameters seen on
            the way instead of the last ones. Neither paper nor code do; at few bits, where
            straight-through weights keep jumping between levels, a layer may else end up worse than
            it began.

    """

    name: ClassVar[str] = "adaquant"
    paper: ClassVar[Paper] = papers.ADAQUANT

    iterations: int = 1000
    batch_size: int = 50
    lr_weights: float = 1e-5
    lr_bias: float = 1e-3
    lr_acts: float = 1e-1
    lr_ranges: float = 1e-3
    sequential: bool = True
    relu: bool = True
    settle: bool = False

    def apply(self, job: Job) -> Job:
        """Layer by layer; only the sequential form looks at what was done before."""
        q = job.start()
        finished, memory = FinishedSteps(job, self), Memory()
        fa, calib = following_functions(q.net), parallel.share(job.calib)
        if self.sequential:
            calibrate_elsewhere(q, job)
        full = Progressive(q.net.model, calib, memory)
        before = Progressive(q.model, calib, memory) if self.sequential else full
        layers = learnt_layers(q, calib)
        for i, layer in enumerate(layers):
            name = layer.info.name
            qp_w = weight_range(q, layer, calib)
            done = finished.load(name)
            if done is None:
                full.advance(name)
                before.advance(name)
                act = self.activation(fa, name)
                x, target = before.inputs_of(name)[0], full.output_of(name, act)
                part = Part(name, f"adaquant {name}", i, len(layers))
                done = self.calibrate(job, layer, qp_w, x, target, act, part)
                finished.save(name, done)
            install(layer, done, qp_w.levels)
        q.calibrate_acts(job.calib, only_new=True)
        return job.done(q)

    def activation(
        self, fa: dict[str, Callable[[Tensor], Tensor]], name: str
    ) -> Callable[[Tensor], Tensor]:
        """The function after the layer, where it counts."""
        return fa[name] if self.relu else lambda z: z

    def calibrate(
        self,
        job: Job,
        layer: QuantLayer,
        qp_w: QParams,
        x: Activations,
        target: Activations,
        fa: Callable[[Tensor], Tensor],
        part: Part,
    ) -> dict[str, Tensor]:
        """Minimise || W X - Q(W + V) Q(X) ||^2 over V, b, Delta_w and Delta_x (eq. 2 and 4)."""
        V = torch.zeros_like(layer.original).requires_grad_()
        b = layer.bias.detach().clone().requires_grad_()
        delta_w = Range(qp_w, symmetric=job.scheme.weights.symmetric)
        delta_x = self.input_range(layer, x)

        def objective(batch: Tensor, progress: float) -> Tensor:  # noqa: ARG001 - nothing is annealed
            w = delta_w.fake(layer.original + V)  # Q(W + V)
            xq = x.take(batch) if delta_x is None else delta_x.fake(x.take(batch))  # Q(X)
            return squared_error(fa(layer.op(xq, w, b)), target.take(batch))  # eq. 2 and 4

        adams = [
            Adam([V], lr=self.lr_weights, fused=True),
            Adam([b], lr=self.lr_bias, fused=True),
            Adam(delta_w.learnt, lr=self.lr_ranges, fused=True),
        ]
        if delta_x is not None:
            adams.append(Adam(delta_x.learnt, lr=self.lr_acts, fused=True))
        settle = None
        if self.settle:
            settle = Settle(adams, self.iterations, partial(mean_error, objective, len(x)))

        def after_step(step: int) -> None:
            for learnt_range in (delta_w, delta_x):
                if learnt_range is not None:
                    learnt_range.within()
            if settle is not None:
                settle(step)

        descent = Descent(self.iterations, self.batch_size)
        fit(job, part, objective, len(x), adams, descent, after_step=after_step)
        if settle:
            settle.restore()
        return learnt(layer.original + V, b, delta_w, delta_x)

    @staticmethod
    def input_range(layer: QuantLayer, x: Activations) -> Range | None:
        """Where Delta_x starts: the range that the scheme's estimator finds.

        ``None`` in full precision.
        """
        if layer.act is None:
            return None
        layer.act.observe()
        for start in range(0, len(x), 64):
            layer.act(x.take(slice(start, min(start + 64, len(x)))))
        layer.act.finish()
        parallel.agree([layer.act.scale.data, layer.act.zero])
        return Range(layer.act.qparams, symmetric=layer.act.grid.symmetric)


@torch.no_grad()
def calibrate_elsewhere(q: Quantized, job: Job) -> None:
    """Quantizers elsewhere than at layer inputs are not learnt.

    Layers behind them learn to live with them.
    """
    own = {layer.act for layer in q.layers()}
    elsewhere = [act for act in q.act_quants().values() if act not in own and not act.enabled]
    for act in elsewhere:
        act.observe()
    if elsewhere:
        forward(q.model, job.calib)
    for act in elsewhere:
        act.finish()


def learnt(w: Tensor, b: Tensor, delta_w: Range, delta_x: Range | None) -> dict[str, Tensor]:
    """What a layer has learnt, as :func:`install` takes it."""
    qp = delta_w.qparams
    done = {"codes": qp.quantize(w.detach()), "bias": b.detach()}
    done |= {"scale": qp.scale.detach(), "zero": qp.zero.detach()}
    if delta_x is not None:
        qp = delta_x.qparams
        done |= {"act.scale": qp.scale.detach(), "act.zero": qp.zero.detach()}
        done |= {"act.levels": torch.tensor(qp.levels)}
    return done


@torch.no_grad()
def mean_error(objective: Objective, examples: int) -> float:
    """The objective over all examples, and all processes."""
    parts = [torch.arange(i, min(i + CHUNK, examples)) for i in range(0, examples, CHUNK)]
    found = torch.stack([objective(part, 0.0) * len(part) for part in parts]).sum() / examples
    parallel.average([found])
    return float(found)


def install(layer: QuantLayer, done: dict[str, Tensor], levels: tuple[int, ...]) -> None:
    """Put what was learnt into the layer."""
    layer.set_codes(done["codes"], QParams(done["scale"], done["zero"], levels))
    layer.bias.data = done["bias"]
    if layer.act is not None:
        levels_x = tuple(int(i) for i in done["act.levels"])
        layer.act.set(QParams(done["act.scale"], done["act.zero"], levels_x))
