"""Weights that are computed from others, as they are now."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import parametrize


def without_parametrizations(module: nn.Module) -> None:
    """Weights that are computed from others (weight_norm, spectral_norm, masks), as they are now.

    The older forms of these are hooks that write the weight before each call. torch's own removal
    of the newer ones changes the class, which copies of the module share.
    """
    if parametrize.is_parametrized(module):
        names = list(module.parametrizations)  # type: ignore[arg-type]
        values = {name: getattr(module, name).detach().clone() for name in names}
        module.__class__ = type(module).__bases__[0]
        del module.parametrizations
        for name, value in values.items():
            module.register_parameter(name, nn.Parameter(value, requires_grad=False))
    for key, hook in list(module._forward_pre_hooks.items()):  # noqa: SLF001 - no public way
        name = getattr(hook, "name", getattr(hook, "_tensor_name", None))
        if type(hook).__module__.startswith("torch.nn.utils.") and isinstance(name, str):
            del module._forward_pre_hooks[key]  # noqa: SLF001
            value = getattr(module, name).detach().clone()
            delattr(module, name)
            for part in ("orig", "mask", "u", "v", "g"):
                module._parameters.pop(f"{name}_{part}", None)  # noqa: SLF001
                module._buffers.pop(f"{name}_{part}", None)  # noqa: SLF001
            module.register_parameter(name, nn.Parameter(value, requires_grad=False))
