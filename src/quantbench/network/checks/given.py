"""What a network has to be that a user gives: unwrapped, with weights that are numbers."""

from __future__ import annotations

import copy
import sys

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from quantbench.errors import BadInput
from quantbench.network.layers import TRANSPOSED


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
