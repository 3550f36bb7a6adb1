"""A pass through part of a network as a list of calls that overwrite what no other call reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.network.modules import Add
from quantbench.quantization.layers import QuantLayer

IN_PLACE: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {
    nn.ReLU: F.relu_,
    nn.ReLU6: partial(F.relu6, inplace=True),
}


@dataclass(frozen=True)
class Step:
    """One module's run in a pass.

    Attributes:
        module: what runs.
        reads: the steps, counted from 1, whose results it takes; 0 is what the pass starts from.
            The second one that a layer takes is added to its output.
        over: the one of them that it may overwrite: a layer or a sum made it, and only this step
            reads it.
        relu: the module is a layer, and a ReLU behind it part of this step.

    """

    module: nn.Module
    reads: tuple[int, ...]
    over: int | None = None
    relu: bool = False

    def __call__(self, results: Sequence[Tensor]) -> Tensor:
        """The module's output, differentiable."""
        read = [results[i] for i in self.reads]
        if isinstance(self.module, QuantLayer) and (self.relu or len(read) > 1):
            return self.module.joined(*read, relu=self.relu)
        # autocast: a sum is of the wider type
        if self.over is None or len({x.dtype for x in read}) > 1:
            out: Tensor = self.module(*read)
            return out
        if type(self.module) in IN_PLACE:
            return IN_PLACE[type(self.module)](read[0])
        a, b = read if self.over == self.reads[0] else reversed(read)
        return a.add_(b)


def run(steps: Sequence[Step], x: Tensor) -> Tensor:
    """Result of the last step."""
    results = [x]
    for step in steps:
        results.append(step(results))
    return results[-1]


def steps_of(model: nn.Module, x: Tensor, walk: Callable[[], Tensor]) -> list[Step]:
    """Modules from a tensor to what a pass returns; none unless it comes from modules alone."""
    numbers = {id(x): 0}  # of the steps, by what they gave
    steps, alive = [Step(model, ())], [x]

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        known = all(id(a) in numbers for a in args) and args and not kwargs
        if known and id(out) not in numbers:
            alive.append(out)  # no address is given twice
            steps.append(Step(module, tuple(numbers[id(a)] for a in args)))
            numbers[id(out)] = len(steps) - 1

    handles = [
        m.register_forward_hook(note, with_kwargs=True) for name, m in model.named_modules() if name
    ]
    try:
        last = numbers.get(id(walk()), 0)
    finally:
        for handle in handles:
            handle.remove()
    return _joining(_overwriting(_needed(steps, last)))


def _needed(steps: list[Step], last: int) -> list[Step]:
    """Those that a step depends on, and itself, counted anew."""
    needed = {last}
    for i in range(last, 0, -1):
        needed |= set(steps[i].reads) if i in needed else set()
    order = sorted(needed | {0})
    at = {old: new for new, old in enumerate(order)}

    def renumbered(step: Step) -> Step:
        over = None if step.over is None else at[step.over]
        return replace(step, reads=tuple(at[r] for r in step.reads), over=over)

    return [renumbered(steps[i]) for i in order[1:]]


def _overwriting(steps: list[Step]) -> list[Step]:
    """Activation functions and sums write where a layer or a sum wrote for them alone."""
    readers = Counter(r for step in steps for r in step.reads)
    made = [i for i, step in enumerate(steps, 1) if type(step.module) in (QuantLayer, Add)]
    free = [i for i in made if readers[i] == 1]

    def over(step: Step) -> int | None:
        if type(step.module) not in (Add, *IN_PLACE):
            return None
        return next((r for r in step.reads if r in free), None)

    return [replace(step, over=over(step)) for step in steps]


def _joining(steps: list[Step]) -> list[Step]:
    """Sums and ReLUs that overwrite what a layer gave become part of it, where that is faster."""
    done = [Step(nn.Identity(), ()), *steps]  # from 1, as steps are counted
    for i, step in enumerate(steps, 1):
        if step.over is None:
            continue
        layer = done[step.over]
        if not isinstance(layer.module, QuantLayer) or not layer.module.joins or layer.relu:
            continue
        if type(step.module) is Add and len(layer.reads) == 1:
            (other,) = (r for r in step.reads if r != step.over)
            done[i] = replace(layer, reads=(*layer.reads, other))
        elif type(step.module) is nn.ReLU:
            done[i] = replace(layer, relu=True)
    return _needed(done, len(steps))
