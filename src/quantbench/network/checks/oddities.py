"""What about a module is not as torch wrote it: messages about what differs name it."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from quantbench.network.graph.forward_pass import recorded
from quantbench.network.hooks import has_hooks
from quantbench.system.tensors import Inputs

_KNOWN = ("torch.", "quantbench.")  # packages whose classes are not the user's


def told(model: nn.Module, name: str, inputs: Inputs) -> str:
    """A module's name and class, and what is odd about it, as far as that can be seen.

    Args:
        model: the network, before anything was rewritten.
        name: of the module; empty for the network itself.
        inputs: a small batch, with which it is run.

    """
    module = model.get_submodule(name)
    found = [what for what in (_class(module), *_attached(module)) if what]
    if any(c.values for c in recorded(model, inputs).containers if c.path == name):
        found.append("a branch that depends on values")
    return f"{name or 'the network itself'} ({type(module).__name__})" + (
        f": {', '.join(found)}" if found else ""
    )


def _class(module: nn.Module) -> str:
    """Whose class it is, if not torch's or ours."""
    mro: tuple[Any, ...] = type(module).__mro__
    base = next(t for t in mro if t.__module__.startswith("torch.nn.modules"))
    own = [t for t in mro[: mro.index(base)] if not t.__module__.startswith(_KNOWN)]
    if not own:
        return ""
    if base is nn.Module:
        return "a class of its own"
    rewritten = own[0].forward is not base.forward
    return f"a subclass of {base.__name__}" + (" with a forward of its own" * rewritten)


def _attached(module: nn.Module) -> list[str]:
    """What was hung on the module itself."""
    found = {
        "a patched forward": "forward" in vars(module),
        "a hook": has_hooks(module),
        "a parametrization": parametrize.is_parametrized(module),
    }
    return [what for what, there in found.items() if there]
