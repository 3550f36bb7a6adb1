"""Blocks and stages of a network, found from what one forward pass did.

A residual add or a concatenation closes a block: the smallest module that holds the call and all
layers between it and where its branches part. So a ResNet's blocks are its residual blocks, and an
encoder's its layers, whose second add lies around the first. Modules of the same class are blocks
too (the first of a MobileNetV2's stages has no add), and so are those of a class that comes again
and again, with several layers each, where nothing is closed (MobileNetV1).
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from quantbench.network.graph.calls import Node
from quantbench.network.graph.recording import Recording

_ADDS = frozenset(["add", "add_", "__iadd__", "__radd__", torch.add, operator.add])

_JOINS = frozenset([torch.cat, torch.concat])


def find_blocks(
    recording: Recording, model: nn.Module, kinds: tuple[type[nn.Module], ...]
) -> tuple[str, ...]:
    """Names of modules that block reconstruction can treat as units, in execution order.

    Args:
        recording: one forward pass of the model, in which layers are operators.
        model: the network.
        kinds: classes of layers.

    """
    kinds = tuple(k for k in kinds if k is not nn.Embedding)  # of tables nothing is learnt
    names = {module: name for name, module in model.named_modules()}
    layers = [names[n.target] for n in recording.nodes if isinstance(n.target, kinds)]
    calls = Counter(c.path for c in recording.containers)
    once = [c.path for c in recording.containers if c.path and calls[c.path] == 1]
    kept = _innermost(p for p in _closed(recording, names, kinds) if p in once)
    modules = dict(model.named_modules())
    known = {type(modules[p]) for p in kept}
    kept += _apart(kept, (p for p in once if type(modules[p]) in known))
    several = [p for p in once if _own(modules[p]) and sum(_within(n, p) for n in layers) > 1]
    often = Counter(type(modules[p]) for p in several)
    kept += _apart(kept, (p for p in several if often[type(modules[p])] > 1))
    return tuple(p for p in once if p in kept and any(_within(n, p) for n in layers))


def stages(model: nn.Module, blocks: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Group blocks of one resolution: a stage begins where something has a stride."""
    groups: list[list[str]] = []
    reduced = True
    for name, module in model.named_modules():
        if name in blocks:
            if reduced or any(_strided(m) for m in module.modules()):
                groups.append([])
            groups[-1].append(name)
            reduced = False
        elif not any(_within(name, block) for block in blocks):
            reduced |= _strided(module)
    return tuple(tuple(group) for group in groups)


def _strided(module: nn.Module) -> bool:
    stride = getattr(module, "stride", 1)  # a module of the user's may mean anything by it
    steps = stride if isinstance(stride, tuple | list) else (stride,)
    return any(isinstance(s, int) and s > 1 for s in steps)


def _own(module: nn.Module) -> bool:
    """Whether a module's class is the network's, not one of torch's containers."""
    return not type(module).__module__.startswith("torch.")


def _within(name: str, module: str) -> bool:
    return name.startswith(f"{module}.")


def _closed(
    recording: Recording, names: dict[nn.Module, str], kinds: tuple[type[nn.Module], ...]
) -> Iterator[str]:
    """Of each add and concatenation, the smallest module that holds it and its branches' layers."""
    index = {node: i for i, node in enumerate(recording.nodes)}
    before: dict[Node, int] = {}  # a bit for the node, and for each that it is made of
    for node in recording.nodes:
        made_of = (before[n] for n in node.inputs if n in before)
        before[node] = reduce(operator.or_, made_of, 1 << index[node])
    entry = 1 << index[recording.nodes[0]]
    for node in recording.nodes:
        branches = _branches(node)
        if len(branches) < 2 or not all(before[b] & entry for b in branches):
            continue
        sets = [before[b] for b in branches]
        apart = reduce(operator.or_, sets) & ~reduce(operator.and_, sets)
        between = [
            names[n.target]
            for n in recording.nodes
            if isinstance(n.target, kinds) and apart >> index[n] & 1
        ]
        if between:
            yield _common([node.container, *(name.rpartition(".")[0] for name in between)])


def _branches(node: Node) -> list[Node]:
    """What an add of two tensors of one shape adds, or what a concatenation joins."""
    if node.target in _JOINS:
        return [n for n in node.inputs if n.op != "get_attr"]
    alike = len(node.inputs) == 2 and all(
        isinstance(n.example, Tensor) and n.example.shape == node.example.shape for n in node.inputs
    )
    return node.inputs if alike and node.target in _ADDS else []


def _common(paths: Iterable[str]) -> str:
    """The innermost module that all of these lie in, or are."""
    split = [p.split(".") if p else [] for p in paths]
    parts: list[str] = []
    for level in zip(*split, strict=False):
        if len(set(level)) > 1:
            break
        parts.append(level[0])
    return ".".join(parts)


def _innermost(found: Iterable[str]) -> list[str]:
    """Modules of which none lies in another.

    One around a single other takes its place (an encoder layer around its attention); one around
    several is a stage, and they stay.
    """
    kept: list[str] = []
    for path in sorted(set(found), key=lambda p: -p.count(".")):
        inner = [k for k in kept if _within(k, path)]
        if len(inner) < 2:
            kept = [k for k in kept if k not in inner] + [path]
    return kept


def _apart(kept: Sequence[str], found: Iterable[str]) -> list[str]:
    """The outermost of some modules that neither hold nor lie in one that is kept."""
    more: list[str] = []
    for path in found:  # outer modules begin first
        others = [*kept, *more]
        if not any(path == k or _within(k, path) or _within(path, k) for k in others):
            more.append(path)
    return more
