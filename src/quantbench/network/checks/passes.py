"""What a network does in a few passes: the same each time, a tensor, one example at a time."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from quantbench.errors import BadInput
from quantbench.network.checks.same import SAME, close, outputs
from quantbench.network.checks.state import changes, from_values, same, state
from quantbench.network.plain.given import described, spare_inputs
from quantbench.system.tensors import Inputs


@torch.no_grad()
def keep_inputs(model: nn.Module, inputs: Inputs, name: str) -> tuple[Tensor, frozenset[str]]:
    """Make activations write tensors of their own: in place, they would overwrite captured ones.

    Returns:
        what it gives, and the names of the buffers that a pass changes, such as a count of calls.

    Raises:
        BadInput: a sample that the network does not take; the network gives no tensor, another
            output for the same input, or another one when activations do not work in place.

    """
    before, again, changed = _two_runs(model, inputs, name)
    if not isinstance(before, Tensor):
        raise BadInput(
            f"{name} returns {described(before)}, not a tensor: say which with output=, or put it "
            "into a module that returns one tensor"
        )
    if before.is_floating_point() and before.isnan().any():
        first = next((n for n, t in outputs(model, inputs) if t.isnan().any()), "")
        raise BadInput(
            f"{name} gives NaN for its sample; the first module that does is "
            f"{first or 'the network itself'} ({type(model.get_submodule(first)).__name__})"
        )
    if not close(again, before):
        raise BadInput(
            f"{name} gives different outputs for the same input in evaluation mode: "
            + (
                f"each pass changes {', '.join(sorted(changed))}; change it in training alone"
                if changed
                else "something in it is random, such as F.dropout without training=self.training, "
                "or is kept from one call to the next"
            )
        )
    for module in model.modules():
        if hasattr(module, "inplace"):
            vars(module)["inplace"] = False
    given = tuple(t.clone() for t in inputs)
    after = model(*given)
    if not same(given, tuple(inputs)):
        spare_inputs(model, name)
    if not close(after, before):
        raise BadInput(
            f"{name} reads a tensor again that an in-place activation changed: avoid inplace=True"
        )
    return before, changed


def _two_runs(model: nn.Module, inputs: Inputs, name: str) -> tuple[Any, Any, frozenset[str]]:
    """What the network gives the first and the second time, and the buffers that a pass changes.

    Raises:
        BadInput: the first pass sets something from the values that it gets.

    Warns:
        UserWarning: each pass changes something that is no buffer.

    """

    def run(given: Inputs) -> Any:
        return model(*(t.clone() for t in given))

    start, modules = state(model), {path for path, _ in model.named_modules()}
    before = _first_run(model, inputs, name)
    if made := sorted({path for path, _ in model.named_modules()} - modules):
        raise BadInput(
            f"{name}: its first pass makes the modules {', '.join(made)}: run the model once on an "
            "example, and load its weights, before it is quantized"
        )
    ever = changes(start, model)
    first = state(model) if ever else start
    again = run(inputs)
    each = changes(first, model)
    once = ever - each
    if once and (found := from_values(model, start, once, inputs, run)):
        raise BadInput(
            f"{name}: its first pass sets {', '.join(found)} from the values that it gets: run the "
            "model once on the data that this should come from, before it is quantized"
        )
    buffers = {key for key, _ in model.named_buffers()}
    if attributes := sorted(each - buffers):
        warnings.warn(
            f"{name}: each pass changes {', '.join(attributes)}, which no file keeps; what the "
            "network does may be another thing after more passes",
            stacklevel=4,
        )
    return before, again, frozenset((each | once) & buffers)


@torch.no_grad()
def tell_coupled(model: nn.Module, inputs: Inputs, whole: Tensor, name: str) -> None:
    """Warn where what a network gives for an example depends on the others.

    Args:
        model: the network.
        inputs: a small batch.
        whole: what it gives for all of it.
        name: what messages call it.

    """
    if not whole.dim() or any(not t.dim() or len(t) != len(whole) for t in inputs):
        return
    try:
        alone = model(*(t[:1].clone() for t in inputs))
    except Exception:  # noqa: BLE001 - a network need not take one example
        return
    alike = isinstance(alone, Tensor) and alone.shape == whole[:1].shape
    if alike and not close(alone, whole[:1], SAME):
        warnings.warn(
            f"{name}: what it gives for an example depends on the others beside it, so results "
            "depend on how many run at a time",
            stacklevel=3,
        )


def _first_run(model: nn.Module, inputs: Inputs, name: str) -> Any:
    """What the network gives for a sample.

    Raises:
        BadInput: no examples, or whatever the network raises.

    """
    shapes = ", ".join(str(tuple(t.shape)) for t in inputs)
    if not inputs or any(t.dim() and not len(t) for t in inputs):
        raise BadInput(f"the sample of {name} has no examples: its shapes are {shapes or 'none'}")
    try:
        return model(*(t.clone() for t in inputs))
    except BadInput:
        raise
    except Exception as e:
        raise BadInput(
            f"a copy of {name} in evaluation mode does not run on its sample of shapes {shapes}, "
            f"whose first dimension is that of the examples: {type(e).__name__}: {e}"
        ) from e
