"""What a recorded forward pass is: calls of operators, and each container's own graph of them."""

from __future__ import annotations

import gc
import inspect
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx, nn

from quantbench.network.graph.calls import Node, parts

Leaf = Callable[[nn.Module], bool]

LARGE = 1 << 27  # bytes that are worth looking for, which takes a tenth of a second

DEPENDS = "what it does depends on the values of a tensor"


@dataclass(eq=False)
class Container:
    """One call of a module that is no leaf.

    Attributes:
        path: its name.
        module: the module.
        graph: its call, for torch.fx; its children stand in it as modules.
        obstacle: why the graph cannot stand for the module, if it cannot.
        values: whether what it does depends on values, so that no graph can.
        constants: tensors that its graph takes and that no module holds, by attribute name.
        locals: the call in the graph that gave each tensor, by the tensor's identity.
        arguments: how many arguments it was given.
        unseen: tensors that it takes and that no call was seen to make.
        changed: what constants were that it takes after they were changed in place.

    """

    path: str
    module: nn.Module
    graph: fx.Graph = field(default_factory=fx.Graph)
    obstacle: str = ""
    values: bool = False
    constants: dict[str, Tensor] = field(default_factory=dict)
    locals: dict[int, fx.Node] = field(default_factory=dict)
    arguments: int = 0
    unseen: list[Tensor] = field(default_factory=list)
    changed: list[Tensor] = field(default_factory=list)

    def begin(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Its arguments: the tensors in them are what its graph takes.

        Every argument that may be left out may be: what else was given is part of the recording.
        """
        self.arguments = len(args) + len(kwargs)
        signature = inspect.signature(self.module.forward)
        given = signature.bind(*args, **kwargs).arguments
        for name, parameter in signature.parameters.items():
            optional = parameter.default is not parameter.empty
            optional |= parameter.kind is inspect.Parameter.KEYWORD_ONLY
            default = None if optional else inspect.Signature.empty
            star = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}.get(parameter.kind.name, "")
            self.bring(self.graph.placeholder(star + name, default_value=default), given.get(name))

    def bring(self, local: fx.Node, out: Any) -> None:
        """Remember which call gave each tensor."""
        for way, tensor in parts(out):
            node = local
            for kind, key in way:
                function = operator.getitem if kind == "item" else getattr
                node = self.graph.call_function(function, (node, key))
            node.meta["tensor"] = tensor
            self.locals[id(tensor)] = node


@dataclass
class Call:
    """A module that is running: a container, or a leaf with the arguments that it got."""

    name: str
    container: Container | None
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    stale: str = ""


@dataclass(frozen=True)
class Recording:
    """What one forward pass was.

    Attributes:
        nodes: all calls of leaves and functions, in execution order: first the network's inputs,
            last its output.
        containers: all calls of containers, in the order in which they began.
        output: what the network gave.

    """

    nodes: list[Node]
    containers: list[Container]
    output: Any

    def __del__(self) -> None:
        """Free the feature maps at once, where they are large.

        Calls and their graphs refer to one another, so that Python would find them some time later,
        when gigabytes more have been recorded.
        """
        examples = [n.example for n in vars(self).pop("nodes", ())]
        held = sum(t.numel() * t.element_size() for t in examples if isinstance(t, Tensor))
        del examples
        vars(self).clear()
        if held > LARGE:
            gc.collect()
