"""From a network's input to its output, layer by layer, in full precision and quantized so far."""

from __future__ import annotations

import torch

from quantbench.calibration.memory import Memory
from quantbench.calibration.passes import Progressive
from quantbench.quantization.quantized import Quantized
from quantbench.system import parallel
from quantbench.system.tensors import Inputs


class Walk:
    """From a network's input to its output: what each layer gets and gives, in full precision and quantized so far.

    Attributes:
        calib: this process's calibration examples.
        full: passes through the full-precision network.
        before: passes through the quantized one, or through the full-precision one when not
            ``asymmetric``.
        memory: where activations are kept.

    """

    def __init__(
        self, q: Quantized, calib: Inputs, *, asymmetric: bool, bfloat16: bool = False
    ) -> None:
        self.calib, self.memory = (
            parallel.share(calib),
            Memory(store=torch.bfloat16 if bfloat16 else None),
        )
        self.full = Progressive(q.net.model, self.calib, self.memory)
        self.before = Progressive(q.model, self.calib, self.memory) if asymmetric else self.full

    def to(self, module: str) -> None:
        """Go on to a module; what lies before it is final."""
        self.full.advance(module)
        self.before.advance(module)
