"""What a network has to be, and that it is still the same after it was rewritten."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from quantbench.errors import BadInput
from quantbench.network.hooks import hooked
from quantbench.network.layers import TRANSPOSED
from quantbench.network.oddities import told
from quantbench.network.plain.given import described, spare_inputs
from quantbench.network.plain.state import changes, from_values, same, state
from quantbench.system.tensors import Inputs

SAME = 1e-3  # of the largest output: float32 sums in another order stay far below


def require_unwrapped(model: nn.Module, name: str, kinds: tuple[type[nn.Module], ...]) -> None:
    """Refuse wrappers, inside which there are no modules to replace.

    Raises:
        BadInput: says how to take the network out.

    """
    inside = model.named_modules() if isinstance(model, nn.Module) else ()
    for path, module in inside:
        _require_unwrapped(module, f"{name}: {path}" if path else name, path)
    if isinstance(model, (*kinds, *TRANSPOSED)):
        kind = type(model).__name__
        raise BadInput(f"{name} is itself a layer: give nn.Sequential({kind}(...)), which holds it")
    if not isinstance(model, nn.Module):
        advice = "give an nn.Module"
        if hasattr(model, "module"):
            advice = "give the module that it was exported from, which has layers to replace"
        raise BadInput(f"{name} is {type(model).__name__}, not a module: {advice}")


def _require_unwrapped(module: nn.Module, name: str, path: str) -> None:
    """The same of one module in a network."""
    if isinstance(module, torch.jit.ScriptModule):
        raise BadInput(
            f"{name} is a scripted or traced module (torch.jit), whose layers cannot be replaced: "
            "give the module that it was made from"
        )
    wrappers: tuple[tuple[type[nn.Module], str], ...] = (
        (nn.DataParallel, "module"),
        (nn.parallel.DistributedDataParallel, "module"),
        *((kind, "_orig_mod") for kind in _compiled()),
    )
    for wrapper, inner in wrappers:
        if isinstance(module, wrapper):
            way = f"model.{path}.{inner}" if path else f"model.{inner}"
            raise BadInput(f"{name} is wrapped in {wrapper.__name__}: give {way}, what it wraps")


def _compiled() -> tuple[type[nn.Module], ...]:
    """torch.compile's class; none where nothing was compiled, for its import takes seconds."""
    dynamo = sys.modules.get("torch._dynamo")
    return () if dynamo is None else (dynamo.OptimizedModule,)


def evaluating_copy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode without gradients.

    The older weight_norm and its like keep a computed weight that cannot be copied while it has a
    gradient; it is computed anew before each call.

    Raises:
        BadInput: weights without values.

    """
    if lazy := [k for k, p in model.named_parameters() if is_lazy(p)]:
        raise BadInput(
            f"the weights {', '.join(lazy)} are lazy and have no values yet: run the network once "
            "on an example, and load them"
        )
    for module in model.modules():
        for key, value in vars(module).items():
            if isinstance(value, Tensor) and not value.is_leaf:
                vars(module)[key] = value.detach()
    if any(t.is_meta for t in (*model.parameters(), *model.buffers())):
        raise BadInput("the network lies on the meta device, which holds no values: load them")
    copied = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
    for module in copied.modules():
        vars(module)["_compiled_call_impl"] = None  # of module.compile(): it goes past our hooks
        if isinstance(module, nn.TransformerEncoder):
            module.enable_nested_tensor = module.use_nested_tensor = False
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0  # the fused path would go past its layers
    return copied


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
        first = next((n for n, t in _outputs(model, inputs) if t.isnan().any()), "")
        raise BadInput(
            f"{name} gives NaN for its sample; the first module that does is "
            f"{first or 'the network itself'} ({type(model.get_submodule(first)).__name__})"
        )
    if not _close(again, before):
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
    if not _close(after, before):
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
    if alike and not _close(alone, whole[:1], SAME):
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
    except Exception as e:
        raise BadInput(
            f"a copy of {name} in evaluation mode does not run on its sample of shapes {shapes}, "
            f"whose first dimension is that of the examples: {type(e).__name__}: {e}"
        ) from e


def require_finite(model: nn.Module, name: str) -> None:
    """Refuse weights that are not finite, or not float32, naming them.

    A buffer may hold infinities, as masks of attention do, but for statistics of batch norm.
    """
    weights = {key for key, _ in model.named_parameters()}
    for key, value in model.state_dict().items():
        if value.is_floating_point() and value.dtype != torch.float32:
            raise BadInput(
                f"{name}: {key!r} is {value.dtype}; quantization starts from float32: "
                "call model.float(), or give float32=True"
            )
        if not value.is_floating_point():
            continue
        masks = key not in weights and not key.rpartition(".")[2].startswith("running_")
        wrong = value.isnan() if masks else ~torch.isfinite(value)
        if bad := int(wrong.sum()):
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
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not a.is_floating_point():
        return torch.equal(a, b)
    finite = b[b.isfinite()]  # infinities are equal, or not
    limit = part * float(finite.abs().max()) if finite.numel() else 0.0
    return torch.allclose(a, b, rtol=max(part, 1e-4), atol=limit, equal_nan=True)
