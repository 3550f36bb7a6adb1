"""What a network has to be, and that it is still the same after it was rewritten."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from quantbench.errors import BadInput
from quantbench.network.hooks import hooked
from quantbench.network.layers import TRANSPOSED
from quantbench.network.oddities import told
from quantbench.network.plain.given import described
from quantbench.system.tensors import Inputs

SAME = 1e-3  # of the largest output: float32 sums in another order stay far below


def require_unwrapped(model: nn.Module, name: str, kinds: tuple[type[nn.Module], ...]) -> None:
    """Refuse wrappers, inside which there are no modules to replace.

    Raises:
        BadInput: says how to take the network out.

    """
    if isinstance(model, torch.jit.ScriptModule):
        raise BadInput(
            f"{name} is a scripted or traced module (torch.jit), whose layers cannot be replaced: "
            "give the module that it was made from"
        )
    wrappers: tuple[tuple[type[nn.Module], str], ...] = (
        (nn.DataParallel, "model.module"),
        (nn.parallel.DistributedDataParallel, "model.module"),
        *((kind, "model._orig_mod") for kind in _compiled()),
    )
    for wrapper, way in wrappers:
        if isinstance(model, wrapper):
            raise BadInput(f"{name} is wrapped in {wrapper.__name__}: give {way}, what it wraps")
    if isinstance(model, (*kinds, *TRANSPOSED)):
        kind = type(model).__name__
        raise BadInput(f"{name} is itself a layer: give nn.Sequential({kind}(...)), which holds it")
    if not isinstance(model, nn.Module):
        advice = "give exported.module()" if hasattr(model, "module") else "give an nn.Module"
        raise BadInput(f"{name} is {type(model).__name__}, not a module: {advice}")


def _compiled() -> tuple[type[nn.Module], ...]:
    """torch.compile's class; none where nothing was compiled, for its import takes seconds."""
    dynamo = sys.modules.get("torch._dynamo")
    return () if dynamo is None else (dynamo.OptimizedModule,)


def evaluating_copy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode without gradients.

    The older weight_norm and its like keep a computed weight that cannot be copied while it has a
    gradient; it is computed anew before each call.
    """
    for module in model.modules():
        for key, value in vars(module).items():
            if isinstance(value, Tensor) and not value.is_leaf:
                vars(module)[key] = value.detach()
    copied = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
    for module in copied.modules():
        if isinstance(module, nn.TransformerEncoder):
            module.enable_nested_tensor = module.use_nested_tensor = False
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0  # the fused path would go past its layers
    return copied


@torch.no_grad()
def keep_inputs(model: nn.Module, inputs: Inputs, name: str) -> None:
    """Make activations write tensors of their own: in place, they would overwrite captured ones.

    Raises:
        BadInput: the network gives no tensor, another output for the same input, or another one
            when activations do not work in place.

    """
    before, again = (model(*(t.clone() for t in inputs)) for _ in range(2))
    if not isinstance(before, Tensor):
        raise BadInput(
            f"{name} returns {described(before)}, not a tensor: say which with output=, or put it "
            "into a module that returns one tensor"
        )
    if not _close(again, before):
        raise BadInput(
            f"{name} gives different outputs for the same input in evaluation mode: something in "
            "it is random, such as F.dropout without training=self.training"
        )
    for module in model.modules():
        if hasattr(module, "inplace"):
            vars(module)["inplace"] = False
    if not _close(model(*inputs), before):
        raise BadInput(
            f"{name} reads a tensor again that an in-place activation changed: avoid inplace=True"
        )


def require_finite(model: nn.Module, name: str) -> None:
    """Refuse weights that are not finite, or not float32, naming them."""
    for key, value in model.state_dict().items():
        if value.is_floating_point() and value.dtype != torch.float32:
            raise BadInput(
                f"{name}: {key!r} is {value.dtype}; quantization starts from float32: "
                "call model.float(), or give float32=True"
            )
        if value.is_floating_point() and not torch.isfinite(value).all():
            bad = int((~torch.isfinite(value)).sum())
            raise BadInput(
                f"{name}: {bad} of {value.numel()} values of {key!r} are NaN or infinite; "
                "check the checkpoint"
            )


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
    if _close(found, right, SAME):
        return
    changed = f"{step} changed the network's output"
    if found.shape == right.shape:
        found, right = found.double(), right.double()
        changed += f" by {float((found - right).norm() / right.norm()):.1%}"
    else:
        changed += f" from {tuple(right.shape)} to {tuple(found.shape)}"
    first = told(original, _first_difference(model, original, inputs), inputs)
    raise BadInput(f"{changed}; the first module whose output differs is {first}")


def _first_difference(model: nn.Module, original: nn.Module, inputs: Inputs) -> str:
    """The first module behind the last one that gives the same in both."""
    ours, theirs = (dict(_outputs(m, inputs)) for m in (model, original))
    name = ""
    for key in reversed([k for k in theirs if k in ours]):
        if _close(ours[key], theirs[key], SAME):
            break
        name = key
    return name


def _outputs(model: nn.Module, inputs: Inputs) -> Iterator[tuple[str, Tensor]]:
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


def _close(a: Tensor, b: Tensor, part: float = 1e-5) -> bool:
    """Whether two outputs agree within a part of the largest value."""
    if a.shape != b.shape:
        return False
    if not a.is_floating_point():
        return torch.equal(a, b)
    limit = part * float(b.abs().max()) if b.numel() else 0.0
    return torch.allclose(a, b, rtol=max(part, 1e-4), atol=limit, equal_nan=True)
