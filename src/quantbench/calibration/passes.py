"""Forward passes that start where the network is final, instead of at its input.

Methods go through a network from its input to its output, and what lies behind them no longer
changes. So the output of the last finished module is kept, and later passes do not run finished
modules again: that one gives what it gave, and those before it give NaN, as does the network's
input. If that, or 0 instead of NaN (which no comparison can tell from other numbers), changes the
network's output, then something ahead depends on more than the last finished module's output: on
the input, which is then given, or on other modules, and passes keep starting further back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from quantbench.calibration.memory import Activations, Memory
from quantbench.calibration.replay import Step, run, steps_of
from quantbench.calibration.starting_points import Start, filled, record
from quantbench.errors import BadInput
from quantbench.network.tracing import Applied
from quantbench.system.tensors import Inputs

BATCH = 64

Change = Callable[[Tensor], Tensor]

Pass = Callable[..., Tensor]  # (example numbers, what to start from or None) -> a module's output


class _Stop(Exception):
    """Ends a forward pass once everything asked for has been seen."""


class Progressive:
    """One model, its calibration inputs, and how far it is final."""

    def __init__(self, model: nn.Module, inputs: Inputs, memory: Memory) -> None:
        self.model, self.inputs, self.memory = model, inputs, memory
        self.device = next(model.parameters()).device
        self._start: Start | None = None
        self._short: set[str] = set()  # modules on whose output alone the rest does not depend
        self._ran = record(model, self._batch(slice(0, 1)))

    def __len__(self) -> int:
        return self.inputs[0].shape[0]

    def inputs_of(self, module: str) -> tuple[Activations, ...]:
        """Tensor arguments that a module receives, over all examples."""
        target = self.model.get_submodule(module)
        return self._collect(
            module,
            lambda see: target.register_forward_pre_hook(
                lambda _, a: see([t for t in a if torch.is_tensor(t)])
            ),
        )

    def output_of(
        self, module: str, change: Change = lambda x: x, *, exact: bool = False
    ) -> Activations:
        """Output of a module over all examples, after ``change`` (such as the activation function that follows).

        Args:
            module: its name.
            change: function of the output.
            exact: kept in its own type, whatever the memory's.

        """
        target = self.model.get_submodule(module)
        (found,) = self._collect(
            module,
            lambda see: target.register_forward_hook(
                lambda _, __, out: see([change(_tensor(out, module))])
            ),
            exact=exact,
        )
        return found

    @torch.no_grad()
    def advance(self, module: str) -> bool:
        """Take note that everything that ends before ``module`` begins is final.

        Returns:
            whether passes now start further on than before.

        """
        begin = self._ran[module].begin if module in self._ran else -1
        reached = self._ran[self._start.module].end if self._start else -1
        ran = [(n, r) for n, r in self._ran.items() if r.shape is not None and n not in self._short]
        over = [n for n, r in ran if reached < r.end < begin]
        few = slice(0, 2)
        for last in reversed(over):
            trial = Start(
                last, self.memory.keep(self.forward(few, last)), self._before(last), self.model
            )
            with replace(trial, before={})(kept := trial.kept.take(few)):
                whole = self.model(*self._batch(few))
            for blind in (True, False):
                if self._enough(replace(trial, blind=blind), few, kept, whole):
                    self._start = replace(trial, kept=self.output_of(last, exact=True), blind=blind)
                    return True
            self._short.add(last)
        return False

    def _before(self, last: str) -> dict[str, tuple[int, ...]]:
        """Outermost modules that end before ``last`` does, with the shapes of their outputs."""
        over = {
            n: r.shape
            for n, r in self._ran.items()
            if r.end < self._ran[last].end and r.shape is not None
        }
        return {
            n: s for n, s in over.items() if not any(n.startswith(f"{o}.") for o in (*over, last))
        }

    def kept(self, index: slice | Tensor) -> Tensor | None:
        """What the last finished module gives for some examples; ``None`` where passes start at the input."""
        return self._start.kept.take(index) if self._start else None

    def forward(self, index: slice | Tensor, stop: str = "", kept: Tensor | None = None) -> Tensor:
        """Output of the network, or of the module ``stop``, for some examples; differentiable.

        Args:
            index: which examples.
            stop: where to stop; by default at the network's output.
            kept: what to use instead of :meth:`kept`, such as the full-precision network's.

        """
        seen: list[Tensor] = []

        def catch(_: nn.Module, __: Inputs, out: Tensor) -> None:
            seen.append(out)
            raise _Stop

        handle = self.model.get_submodule(stop).register_forward_hook(catch) if stop else None
        try:
            with self._shortcut(self.kept(index) if kept is None else kept):
                out: Tensor = self.model(*self._batch(index, self._start))
        except _Stop:
            return seen[0]
        finally:
            if handle:
                handle.remove()
        return out

    @torch.no_grad()
    def repeated(self, stop: str) -> Pass:
        """:meth:`forward` to the module ``stop`` in less time, until this object advances.

        The modules in between are called one by one, and overwrite what nobody else reads. Where
        that does not give what the network gives, because more than such calls is at work, it is
        :meth:`forward` itself.
        """
        few = slice(0, 2)
        kept = self.kept(few)
        if kept is not None:
            steps = steps_of(self.model, kept, partial(self.forward, few, stop, kept))
            if steps and torch.equal(run(steps, kept), self.forward(few, stop)):
                return partial(self._forward_by, steps)
        return lambda index, kept=None: self.forward(index, stop, kept)

    def _forward_by(
        self, steps: Sequence[Step], index: Tensor, kept: Tensor | None = None
    ) -> Tensor:
        """Output of the last of some steps; the arguments are those of :meth:`forward`."""
        kept = self.kept(index) if kept is None else kept
        assert kept is not None
        return run(steps, kept)

    @torch.no_grad()
    def runs(self, stop: str) -> frozenset[str]:
        """Names of the modules that run in a pass from the current start to the module ``stop``."""
        seen: set[str] = set()
        skip = () if self._start is None else (self._start.module, *self._start.before)
        handles = [
            m.register_forward_hook(lambda *_, n=n: seen.add(n))
            for n, m in self.model.named_modules()
            if n not in skip
        ]
        try:
            self.forward(slice(0, 1), stop)
        finally:
            for handle in handles:
                handle.remove()
        return frozenset(seen)

    def split(
        self, index: slice, module: str, change: Change | None = None
    ) -> tuple[Tensor, Tensor]:
        """A module's output as the leaf of a graph, and the network's output that follows from it.

        ``change`` is the activation function that comes next, if the leaf is to be what it gives.
        """
        leaf: list[Tensor] = []
        applied = Applied()

        def cut(_: nn.Module, __: Inputs, out: Tensor) -> Tensor:
            leaf.append((out if change is None else change(out)).detach().requires_grad_())
            given = leaf[0].clone()  # which the network may overwrite
            applied.tensor = None if change is None else given
            return given

        handle = self.model.get_submodule(module).register_forward_hook(cut)
        try:
            with torch.enable_grad(), self._shortcut(self.kept(index)), applied:
                out: Tensor = self.model(*self._batch(index, self._start))
        finally:
            handle.remove()
        return leaf[0], out

    def batches(self) -> Iterator[slice]:
        """Consecutive examples."""
        return (slice(i, min(i + BATCH, len(self))) for i in range(0, len(self), BATCH))

    @torch.no_grad()
    def _collect(
        self,
        module: str,
        hook: Callable[[Callable[[list[Tensor]], None]], Any],
        *,
        exact: bool = False,
    ) -> tuple[Activations, ...]:
        """Keep what a hook sees in passes over all examples; each ends there."""
        found: list[Activations] = []
        kept: Tensor | None = None
        part = slice(0, 0)

        def see(tensors: list[Tensor]) -> None:
            if len(tensors) == 1 and tensors[0] is kept:
                raise _Same
            rows = part.stop - part.start
            if odd := [tuple(t.shape) for t in tensors if t.shape[:1] != (rows,)]:
                raise BadInput(
                    f"module {module!r} works on {odd[0]} for {rows} examples, not on one row for each: it cannot be "
                    "reconstructed; choose layers without it, or blocks that contain it"
                )
            if not found:
                found.extend(self.memory.room(len(self), t, exact=exact) for t in tensors)
            for room, t in zip(found, tensors, strict=True):
                room.append(t)
            raise _Stop

        handle = hook(see)
        try:
            for part in self.batches():
                try:
                    kept = self.kept(part)
                    with self._shortcut(kept):
                        self.model(*self._batch(part, self._start))
                except _Stop:
                    continue
        except _Same:
            assert self._start is not None
            return (self._start.kept,)
        finally:
            handle.remove()
        if not found:
            raise BadInput(
                f"module {module!r} never ran while the calibration set passed through the network"
            )
        return tuple(found)

    def _shortcut(self, kept: Tensor | None) -> AbstractContextManager[Any]:
        """Finished modules replaced while a pass runs."""
        return nullcontext() if self._start is None or kept is None else self._start(kept)

    def _batch(self, index: slice | Tensor, start: Start | None = None) -> Inputs:
        """Network inputs of some examples, images in channels-last layout; a stand-in if the start makes do without."""
        blind = start is not None and start.blind
        return tuple(
            self._input(t, index, start if blind and t.is_floating_point() else None)
            for t in self.inputs
        )

    def _input(self, whole: Tensor, index: slice | Tensor, start: Start | None) -> Tensor:
        """Some examples of one network input, or what stands for them in passes from a start."""
        if start is not None:
            n = len(range(*index.indices(len(whole)))) if isinstance(index, slice) else len(index)
            return filled(
                whole.new_empty(0, device=self.device), (n, *whole.shape[1:]), start.value
            )
        part = whole[index].to(self.device)
        return part.contiguous(memory_format=torch.channels_last) if part.dim() == 4 else part

    def _enough(self, start: Start, few: slice, kept: Tensor, whole: Tensor) -> bool:
        """Whether the rest of the network gives the same without what lies before its start."""

        def same(start: Start) -> bool:
            with start(kept):
                return torch.equal(self.model(*self._batch(few, start)), whole)

        try:
            return all(same(replace(start, value=value)) for value in (math.nan, 0.0))
        except RuntimeError:  # an in-place operation on a stand-in: something ahead uses it
            return False


class _Same(Exception):
    """What is to be kept is kept already."""


def _tensor(out: Any, module: str) -> Tensor:
    """A module's output, which must be a tensor."""
    if not isinstance(out, Tensor):
        raise BadInput(
            f"module {module!r} returns {type(out).__name__}, not a tensor: it cannot be reconstructed"
        )
    return out
