"""Modules that are used several times, as modules of their own for every use."""

from __future__ import annotations

import copy

import torch
from torch import fx, nn

from quantbench.errors import Unsupported
from quantbench.network.graph.forward_pass import recorded, rewritten
from quantbench.network.graph.recording import Container
from quantbench.system.tensors import Inputs

DEPTH = 32  # how deep shared modules lie in shared modules


@torch.no_grad()
def unshare(model: nn.Module, sample: Inputs, kinds: tuple[type[nn.Module], ...]) -> nn.Module:
    """Give every use of a layer a layer of its own, with the same weights.

    A module under two names gets a copy for the second; of a module that is called n times in one
    pass there are n, called ``name``, ``name_use2`` and so on; weights that two layers share are
    copied.

    Args:
        model: changed in place.
        sample: its inputs.
        kinds: classes of layers.

    Returns:
        the network, a new object if it is itself rewritten.

    Raises:
        Unsupported: the recorded call of a module that uses another one several times cannot stand
            for it.

    """
    _by_name(model, kinds)
    for _ in range(DEPTH):
        recording = recorded(model, sample)
        paths = [c.path for c in recording.containers]
        todo = [c for c in recording.containers if paths.count(c.path) == 1 and _twice(c, kinds)]
        if not todo:
            return model
        outermost = [c for c in todo if not any(_inside(c.path, o.path) for o in todo)]
        for container in outermost:
            made = _with_copies(container, kinds)
            if not container.path:
                model = made
            else:
                model.set_submodule(container.path, made)
    raise Unsupported("shared modules lie too deep in one another to be copied")


def _inside(path: str, other: str) -> bool:
    return path != other and (not other or path.startswith(f"{other}."))


def _by_name(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> None:
    """Copies for second names of modules, and of weights."""
    seen: set[nn.Module] = set()
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if module in seen and path and _has_layers(module, kinds):
            fresh = copy.deepcopy(module)
            model.set_submodule(path, fresh)
            seen.update(fresh.modules())
        seen.add(module)
    weights: set[int] = set()
    for module in model.modules():
        if not isinstance(module, kinds):
            continue
        for name, p in list(module.named_parameters(recurse=False)):
            if id(p) in weights:
                own = nn.Parameter(p.detach().clone(), requires_grad=False)
                module.register_parameter(name, own)
            weights.add(id(p))


def _has_layers(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> bool:
    return any(isinstance(m, kinds) for m in module.modules())


def _twice(container: Container, kinds: tuple[type[nn.Module], ...]) -> list[fx.Node]:
    """Calls of modules with layers that the container has called before."""
    seen: set[str] = set()
    found = []
    for node in container.graph.nodes:
        if node.op == "call_module":
            target = str(node.target)
            if target in seen and _has_layers(container.module.get_submodule(target), kinds):
                found.append(node)
            seen.add(target)
    return found


def _with_copies(container: Container, kinds: tuple[type[nn.Module], ...]) -> nn.Module:
    """The container with a module of its own for every use."""
    again = _twice(container, kinds)
    made = rewritten(container)
    uses: dict[str, int] = {}
    for node in again:
        target = str(node.target)
        uses[target] = uses.get(target, 1) + 1
        name = f"{target}_use{uses[target]}"
        made.add_submodule(name, copy.deepcopy(made.get_submodule(target)))
        node.target = name
    made.graph = container.graph
    return made
