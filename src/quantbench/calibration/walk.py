"""From a network's input to its output, module by module: who is final, and where passes start.

What ended before a module began is final as soon as a method works on that module. The last of
these modules whose output alone decides the rest is where passes start from then on; see
``starting_points`` for how that is found out, and ``docs/calibration-pass.md`` for an example.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from quantbench.calibration.memory import Memory
from quantbench.calibration.passes import Passes
from quantbench.calibration.starting_points import FEW, Start, examples, proven
from quantbench.quantization.quantized import Quantized
from quantbench.system import parallel
from quantbench.system.tensors import Inputs


class Walk:
    """What each layer gets and gives, in full precision and quantized so far.

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
        self.calib = parallel.share(calib)
        self.memory = Memory(store=torch.bfloat16 if bfloat16 else None)
        self.full = Progressive(q.net.model, self.calib, self.memory)
        self.before = Progressive(q.model, self.calib, self.memory) if asymmetric else self.full

    def to(self, module: str) -> None:
        """Go on to a module; what lies before it is final."""
        self.full.advance(module)
        self.before.advance(module)


class Progressive(Passes):
    """Passes that start further and further on, as the network becomes final."""

    def __init__(self, model: nn.Module, inputs: Inputs, memory: Memory) -> None:
        super().__init__(model, inputs, memory)
        self._ran = record(model, tuple(examples(t, slice(0, 1), self.device) for t in inputs))
        self._short: set[str] = set()  # modules on whose output alone the rest does not depend

    @torch.no_grad()
    def advance(self, module: str) -> bool:
        """Take note that everything that ends before ``module`` begins is final.

        Returns:
            whether passes now start further on than before.

        """
        for last in self._final(module):
            kept = self.memory.keep(self.forward(FEW, last))
            trial = Start(last, kept, outermost(self._ran, last), self.model)
            if found := proven(trial, self.inputs, self.device):
                self.start = replace(found, kept=self.output_of(last, exact=True))
                return True
            self._short.add(last)
        return False

    def _final(self, module: str) -> list[str]:
        """Modules to start at: final, further on than the present start, the furthest one first."""
        begin = self._ran[module].begin if module in self._ran else -1
        reached = self._ran[self.start.module].end if self.start else -1
        final = [n for n, r in self._ran.items() if r.shape is not None and reached < r.end < begin]
        return [n for n in reversed(final) if n not in self._short]


@dataclass(frozen=True)
class Run:
    """When a module began and ended in one pass, and its output's shape without the examples.

    Modules that run more than once, or do not return one row for each example, have no shape: they
    are never skipped.
    """

    begin: int
    end: int
    shape: tuple[int, ...] | None


@torch.no_grad()
def record(model: nn.Module, inputs: Inputs) -> dict[str, Run]:
    """One pass in which every module's run is noted, in order of their ends."""
    runs: dict[str, Run] = {}
    begun: dict[str, int] = {}
    clock = count()

    def before(name: str, *_: Any) -> None:
        begun[name] = next(clock)

    def after(name: str, _: nn.Module, __: Any, out: Any) -> None:
        each = isinstance(out, Tensor) and out.shape[:1] == inputs[0].shape[:1]
        shape = tuple(out.shape[1:]) if each and name not in runs else None
        runs[name] = Run(begun[name], next(clock), shape)

    handles = []
    for name, module in model.named_modules():
        if name:
            handles.append(module.register_forward_pre_hook(partial(before, name)))
            handles.append(module.register_forward_hook(partial(after, name)))
    try:
        model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return runs


def outermost(runs: Mapping[str, Run], last: str) -> dict[str, tuple[int, ...]]:
    """Modules that end before ``last`` does, with the shapes of their outputs.

    What lies inside one of them, or inside ``last``, does not run any more and is left out.
    """
    end = runs[last].end
    over = {n: r.shape for n, r in runs.items() if r.end < end and r.shape is not None}
    around = (*over, last)
    return {n: s for n, s in over.items() if not any(n.startswith(f"{o}.") for o in around)}
