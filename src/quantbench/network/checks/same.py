"""That a network is still the same after it was rewritten."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from quantbench.errors import BadInput
from quantbench.network.checks.oddities import told
from quantbench.network.hooks import hooked
from quantbench.system.tensors import Inputs

SAME = 1e-3  # of the largest output: float32 sums in another order stay far below


@torch.no_grad()
def require_same(
    model: nn.Module,
    original: nn.Module,
    inputs: Inputs,
    step: str,
    expected: Tensor | None = None,
) -> None:
    """See that a rewritten network gives what it gave before.

    Args:
        model: the rewritten network.
        original: what it was.
        inputs: to compare on.
        step: what messages call the rewriting.
        expected: what the original gives for these inputs, where that is known.

    Raises:
        BadInput: it does not; names the step, the first module after the last one whose output is
            still the same, and what about that module is not as torch wrote it.

    """
    found, right = model(*inputs), original(*inputs) if expected is None else expected
    if close(found, right, SAME):
        return
    changed = f"{step} changed the network's output"
    if found.dtype != right.dtype:
        changed += f" from {right.dtype} to {found.dtype}"
    elif found.shape == right.shape:
        found, right = found.double(), right.double()
        changed += f" by {float((found - right).norm() / right.norm()):.1%}"
    else:
        changed += f" from {tuple(right.shape)} to {tuple(found.shape)}"
    first = told(original, _first_difference(model, original, inputs), inputs)
    raise BadInput(f"{changed}; the first module whose output differs is {first}")


def _first_difference(model: nn.Module, original: nn.Module, inputs: Inputs) -> str:
    """The first module behind the last one that gives the same in both."""
    ours, theirs = (dict(outputs(m, inputs)) for m in (model, original))
    name = ""
    for key in reversed([k for k in theirs if k in ours]):
        if close(ours[key], theirs[key], SAME):
            break
        name = key
    return name


def outputs(model: nn.Module, inputs: Inputs) -> Iterator[tuple[str, Tensor]]:
    """What each module gave last, in the order in which they ended."""
    found: dict[str, Tensor] = {}

    def keep(name: str, out: object) -> None:
        if isinstance(out, Tensor):
            found[name] = out.clone()

    named = list(model.named_modules())
    with hooked(
        *(m.register_forward_hook(lambda _m, _x, y, n=n: keep(n, y)) for n, m in named if n)
    ):
        model(*inputs)
    yield from found.items()


def close(a: Tensor, b: Tensor, part: float = 1e-5) -> bool:
    """Whether two outputs agree within a part of the largest value."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not a.is_floating_point():
        return torch.equal(a, b)
    finite = b[b.isfinite()]  # infinities are equal, or not
    limit = part * float(finite.abs().max()) if finite.numel() else 0.0
    return torch.allclose(a, b, rtol=max(part, 1e-4), atol=limit, equal_nan=True)
