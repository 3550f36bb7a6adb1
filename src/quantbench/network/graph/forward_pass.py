"""What a network does, whatever number of examples it gets.

One recording of a real pass, with the numbers in it that follow the number of examples known as
such. A module that does this or that depending on values is one call: nothing inside it is certain.
"""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor, fx, nn

from quantbench.errors import Unsupported
from quantbench.network.graph.calls import leaves
from quantbench.network.graph.recorder import record
from quantbench.network.graph.recording import Container, Leaf, Recording
from quantbench.network.graph.sizes import follow_sizes
from quantbench.network.hooks import has_hooks
from quantbench.network.layers import LAYERS, TransposedConv
from quantbench.network.modules import ChannelClamp
from quantbench.system.tensors import Inputs

_LAYERS = (*LAYERS, nn.Embedding)  # whatever hangs on them

_OWN = (ChannelClamp, TransposedConv)

_WRITABLE = (*fx.node.base_types, fx.Node, type(None), type(...), range)

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, fx.GraphModule)


def is_operator(module: nn.Module) -> bool:
    """Whether a module is one operator: one of torch's own without children, as torch wrote it."""
    if isinstance(module, _OWN):
        return not has_hooks(module)
    own = type(module).__module__.startswith("torch.nn.") and "forward" not in vars(module)
    own = own and not has_hooks(module)
    alone = isinstance(module, _LAYERS) or next(module.children(), None) is None
    return own and alone and not isinstance(module, _CONTAINERS)


def recorded(model: nn.Module, sample: Inputs, leaf: Leaf = is_operator) -> Recording:
    """A network's calls in one pass, with what depends on the number of examples made out.

    A second pass for another number shows that; a network that takes no other number than the
    sample's is recorded twice on the sample.

    Raises:
        Unsupported: it does not take as many examples as the sample has either.

    """
    try:
        two, three = (record(model, _examples(sample, n), leaf) for n in (2, 3))
    except Exception:  # noqa: BLE001 - whatever the network raises
        try:
            two, three = (record(model, sample, leaf) for _ in range(2))
        except Exception as e:
            raise Unsupported(
                f"{type(model).__name__} does not take {len(sample[0])} examples at a time, nor 2 "
                f"and 3 ({type(e).__name__}: {e}): make it one that takes any number"
            ) from e
    follow_sizes(two, three)
    return two


def forward_pass(
    model: nn.Module,
    sample: Inputs,
    leaf: Leaf = is_operator,
    opaque: Mapping[nn.Module, str] = MappingProxyType({}),
) -> Recording:
    """A network's calls, as far as they are certain.

    Args:
        model: in evaluation mode; not changed.
        sample: its inputs, (N, ...) each; the first example is enough.
        leaf: whether a module is one operator.
        opaque: modules that are not looked into, and why.

    Raises:
        Unsupported: what the network itself does depends on values.

    """
    opaque = dict(opaque)
    while True:
        recording = recorded(model, sample, lambda m: m in opaque or leaf(m))
        unclear = [c for c in recording.containers if c.values]
        if not unclear:
            for node in recording.nodes:
                if isinstance(node.target, nn.Module):
                    node.why = opaque.get(node.target, "")
            return recording
        innermost = unclear[-1]  # of the last one, nothing that began later is unclear
        if innermost.module is model:
            raise Unsupported(f"{type(model).__name__}: {innermost.obstacle}")
        opaque[innermost.module] = f"{type(innermost.module).__name__}: {innermost.obstacle}"


def _examples(sample: Inputs, n: int) -> tuple[Tensor, ...]:
    """The first example n times."""
    return tuple(t[:1].expand(n, *t.shape[1:]).clone() for t in sample)


def rewritten(container: Container) -> fx.GraphModule:
    """A module that does what a container did in the recorded call.

    Args:
        container: the call, whose graph may have been changed.

    Raises:
        Unsupported: its recorded call cannot stand for it.

    """
    where = f"{container.path or 'the network'} ({type(container.module).__name__})"
    _require_writable(container, where)
    for name, tensor in container.constants.items():
        container.module.register_buffer(name, tensor.detach().clone(), persistent=False)
    kind = type(container.module).__name__
    try:
        made = fx.GraphModule(container.module, container.graph, class_name=kind)
    except Exception as e:
        raise Unsupported(f"{where} cannot be rewritten: {e}") from e
    finally:
        for name in container.constants:
            delattr(container.module, name)
    for node in container.graph.nodes:
        node.meta.pop("tensor", None)  # else the module would keep all feature maps
    for name, value in vars(container.module).items():  # which the module around may look at
        bound = getattr(value, "__self__", None) is container.module  # a patched forward
        if not (bound or name == "forward" or name.startswith("_") or name in vars(made)):
            vars(made)[name] = value
    return made.train(container.module.training)


def _require_writable(container: Container, where: str) -> None:
    """Raise Unsupported where torch.fx has no words for what a container did."""
    if container.obstacle:
        raise Unsupported(f"{where} cannot be rewritten: {container.obstacle}")
    if words := [str(n.target) for n in container.graph.nodes if _unspeakable(n)]:
        raise Unsupported(
            f"{where} cannot be rewritten: torch.fx takes no Python keyword for a name, such as "
            f"that of {words[0]}; call it otherwise"
        )
    for node in container.graph.nodes:
        if odd := [v for v in leaves((node.args, node.kwargs)) if not isinstance(v, _WRITABLE)]:
            raise Unsupported(
                f"{where} cannot be rewritten: {node.name} takes a {type(odd[0]).__name__}, which "
                "torch.fx does not write down: make a buffer of what it gives"
            )


def _unspeakable(node: fx.Node) -> bool:
    """Whether what a node calls by name has a keyword in it."""
    named = node.op in ("call_module", "get_attr")
    return named and any(keyword.iskeyword(part) for part in str(node.target).split("."))


def same_calls(a: Container, b: Container) -> bool:
    """Whether two calls of one module did the same."""
    pairs = zip(a.graph.nodes, b.graph.nodes, strict=False)
    return len(a.graph.nodes) == len(b.graph.nodes) and all(
        (x.op, x.target, str(x.args), str(x.kwargs)) == (y.op, y.target, str(y.args), str(y.kwargs))
        for x, y in pairs
    )
