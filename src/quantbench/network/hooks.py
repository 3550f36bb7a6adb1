"""What flows into and out of one module, over a whole calibration set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from quantbench.system.tensors import Inputs


class _Stop(Exception):
    """Ends a forward pass once everything asked for has been seen."""


def batches(inputs: Inputs, size: int) -> Iterator[Inputs]:
    """Consecutive batches of all input tensors."""
    for start in range(0, inputs[0].shape[0], size):
        yield tuple(t[start : start + size] for t in inputs)


def capture_input(model: nn.Module, module: str, inputs: Inputs, *, batch_size: int = 64) -> Inputs:
    """Positional tensor arguments that ``module`` receives, over all examples: (N, ...) each."""
    return _run(model, module, inputs, batch_size, output=False)[0]


def capture_output(
    model: nn.Module, module: str, inputs: Inputs, *, batch_size: int = 64
) -> Tensor:
    """(N, ...) output of ``module`` over all examples."""
    return _run(model, module, inputs, batch_size, output=True)[1]


def capture_both(
    model: nn.Module, module: str, inputs: Inputs, *, batch_size: int = 64
) -> tuple[Inputs, Tensor]:
    """Inputs and output of ``module`` in one pass."""
    return _run(model, module, inputs, batch_size, output=True)


@torch.no_grad()
def _run(
    model: nn.Module, module: str, inputs: Inputs, size: int, *, output: bool
) -> tuple[Inputs, Tensor]:
    """Forward passes that stop at the module."""
    seen_in: list[Inputs] = []
    seen_out: list[Tensor] = []

    def before(_: nn.Module, args: tuple[Any, ...]) -> None:
        seen_in.append(tuple(a.detach() for a in args if isinstance(a, Tensor)))
        if not output:
            raise _Stop

    def after(_: nn.Module, __: tuple[Any, ...], out: Any) -> None:
        seen_out.append((out if isinstance(out, Tensor) else out[0]).detach())
        raise _Stop

    target = model.get_submodule(module)
    with hooked(target.register_forward_pre_hook(before), target.register_forward_hook(after)):
        forward(model, inputs, batch_size=size)
    columns = tuple(torch.cat(column) for column in zip(*seen_in, strict=True))
    return columns, torch.cat(seen_out) if seen_out else torch.empty(0)


def forward(model: nn.Module, inputs: Inputs, *, batch_size: int = 64) -> None:
    """Run every batch for the sake of hooks; a hook may end a pass early."""
    device = next(model.parameters()).device
    for batch in batches(inputs, batch_size):
        try:
            model(*(t.to(device) for t in batch))
        except _Stop:
            continue


@contextmanager
def hooked(*handles: torch.utils.hooks.RemovableHandle) -> Iterator[None]:
    """Remove hooks at the end of the block, whatever happens."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def has_hooks(module: nn.Module) -> bool:
    """Whether hooks of the module's own may change what it takes or gives."""
    return bool(module._forward_hooks or module._forward_pre_hooks)  # noqa: SLF001 - no public way
