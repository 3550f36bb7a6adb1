"""Passes of calibration examples through part of a network: from where it is final, to a module.

What is collected on the way goes into :class:`~quantbench.calibration.memory.Activations`. Where a
pass may start is the matter of ``starting_points``, who is final that of ``walk``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from quantbench.calibration.memory import Activations, Memory
from quantbench.calibration.replay import Step, run, steps_of
from quantbench.calibration.starting_points import FEW, Start, examples
from quantbench.errors import BadInput
from quantbench.network.tracing import Applied
from quantbench.system.tensors import Inputs

BATCH = 64

Change = Callable[[Tensor], Tensor]

Pass = Callable[..., Tensor]  # (example numbers, what to start from or None) -> a module's output

# registers what is called with (module, arguments) or (module, arguments, output)
Register = Callable[[Callable[..., None]], RemovableHandle]

# (examples, what they start from) -> tensors of these examples, such as a module's arguments
Look = Callable[[slice, Tensor | None], list[Tensor]]


class Passes:
    """One model and its calibration inputs.

    Attributes:
        model: what examples pass through.
        inputs: its inputs, of all examples.
        memory: where activations are kept.
        device: where the model is.
        start: where passes start; ``None`` at the network's input.

    """

    def __init__(self, model: nn.Module, inputs: Inputs, memory: Memory) -> None:
        self.model, self.inputs, self.memory = model, inputs, memory
        self.device = next(model.parameters()).device
        self.start: Start | None = None

    def __len__(self) -> int:
        return self.inputs[0].shape[0]

    def batches(self) -> Iterator[slice]:
        """Consecutive examples."""
        return (slice(i, min(i + BATCH, len(self))) for i in range(0, len(self), BATCH))

    def kept(self, index: slice | Tensor) -> Tensor | None:
        """What passes start from, for some examples; ``None`` where that is the network's input."""
        return self.start.kept.take(index) if self.start else None

    def inputs_of(self, module: str) -> tuple[Activations, ...]:
        """Tensor arguments that a module receives, over all examples."""
        register = self.model.get_submodule(module).register_forward_pre_hook

        def look(part: slice, kept: Tensor | None) -> list[Tensor]:
            return [t for t in self._reach(module, register, part, kept) if torch.is_tensor(t)]

        return self._collect(module, look)

    def output_of(
        self, module: str, change: Change = lambda x: x, *, exact: bool = False
    ) -> Activations:
        """Output of a module over all examples.

        Args:
            module: its name.
            change: function of the output, such as the activation function that follows.
            exact: kept in its own type, whatever the memory's.

        """
        register = self.model.get_submodule(module).register_forward_hook

        def look(part: slice, kept: Tensor | None) -> list[Tensor]:
            return [change(_tensor(self._reach(module, register, part, kept), module))]

        (found,) = self._collect(module, look, exact=exact)
        return found

    def forward(self, index: slice | Tensor, stop: str = "", kept: Tensor | None = None) -> Tensor:
        """Output of the network, or of the module ``stop``, for some examples; differentiable.

        Args:
            index: which examples.
            stop: where to stop; by default at the network's output.
            kept: what to use instead of :meth:`kept`, such as the full-precision network's.

        """
        kept = self.kept(index) if kept is None else kept
        if stop:
            register = self.model.get_submodule(stop).register_forward_hook
            out: Tensor = self._reach(stop, register, index, kept)
        else:
            with self._standing_in(kept):
                out = self.model(*self._batch(index))
        return out

    @torch.no_grad()
    def repeated(self, stop: str) -> Pass:
        """:meth:`forward` to the module ``stop`` in less time, as long as the start stays.

        The modules in between are called one by one, and overwrite what nobody else reads. Where
        that does not give what the network gives, because more than such calls is at work, it is
        :meth:`forward` itself.
        """
        kept = self.kept(FEW)
        if kept is not None:
            steps = steps_of(self.model, kept, partial(self.forward, FEW, stop, kept))
            if steps and torch.equal(run(steps, kept), self.forward(FEW, stop)):
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
        """Names of the modules that run in a pass from the start to the module ``stop``."""
        seen: set[str] = set()
        skip = () if self.start is None else (self.start.module, *self.start.before)
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
            with torch.enable_grad(), self._standing_in(self.kept(index)), applied:
                out: Tensor = self.model(*self._batch(index))
        finally:
            handle.remove()
        return leaf[0], out

    @torch.no_grad()
    def _collect(self, module: str, look: Look, *, exact: bool = False) -> tuple[Activations, ...]:
        """What passes over all examples see at a module."""
        found: list[Activations] = []
        for part in self.batches():
            kept = self.kept(part)
            seen = look(part, kept)
            if self.start is not None and len(seen) == 1 and seen[0] is kept:
                return (self.start.kept,)  # what passes start from: it lies there already
            rows = part.stop - part.start
            if odd := [tuple(t.shape) for t in seen if t.shape[:1] != (rows,)]:
                raise BadInput(
                    f"module {module!r} works on {odd[0]} for {rows} examples, not on one row for "
                    "each: it cannot be reconstructed; choose layers without it, or blocks that "
                    "contain it"
                )
            if not found:
                found.extend(self.memory.room(len(self), t, exact=exact) for t in seen)
            for room, t in zip(found, seen, strict=True):
                room.append(t)
            del kept, seen  # the next pass needs their memory
        return tuple(found)

    def _reach(
        self, module: str, register: Register, index: slice | Tensor, kept: Tensor | None
    ) -> Any:
        """What a module receives or gives, the last argument of its hook; the pass ends there.

        Args:
            module: its name.
            register: puts a hook at it.
            index: which examples.
            kept: what they start from.

        """
        found: list[Any] = []

        def reached(*args: Any) -> None:
            found.append(args[-1])
            raise _Reached

        handle = register(reached)
        try:
            with self._standing_in(kept):
                self.model(*self._batch(index))
        except _Reached:
            return found[0]
        finally:
            handle.remove()
        raise BadInput(
            f"module {module!r} never ran while the calibration set passed through the network"
        )

    def _standing_in(self, kept: Tensor | None) -> AbstractContextManager[None]:
        """Finished modules replaced while a pass runs."""
        if self.start is None or kept is None:
            return nullcontext()
        return self.start.standing_in(kept)

    def _batch(self, index: slice | Tensor) -> Inputs:
        """Network inputs of some examples; stand-ins where the start makes do without them."""
        if self.start is not None:
            return self.start.batch(self.inputs, index, self.device)
        return tuple(examples(t, index, self.device) for t in self.inputs)


class _Reached(Exception):
    """Ends a pass at a module: the network's own code runs, and nothing else leaves it half-way."""


def _tensor(out: Any, module: str) -> Tensor:
    """A module's output, which must be a tensor."""
    if not isinstance(out, Tensor):
        raise BadInput(
            f"module {module!r} returns {type(out).__name__}, not a tensor: it cannot be "
            "reconstructed"
        )
    return out
