"""Which call each tensor of a running forward pass came from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from quantbench.network.graph.calls import Node, leaves


class Origins:
    """Calls so far, by the identity of the tensors that they gave.

    Attributes:
        nodes: all calls, in order.
        depends: those whose results depend on the network's inputs.
        attributes: names of the network's parameters and buffers, by identity.
        were: what other calls gave, which may be changed in place later.

    """

    def __init__(self, model: nn.Module) -> None:
        self.nodes: list[Node] = []
        self.depends: set[Node] = set()
        held = (*model.named_parameters(), *model.named_buffers())
        self.attributes = {id(tensor): name for name, tensor in held}
        self.were: dict[Node, Tensor] = {}
        self._names: dict[str, int] = {}
        self._values: dict[int, Node] = {}
        self._alive: list[Any] = []  # keeps identities, and memory, unique

    def __getitem__(self, tensor: Tensor) -> Node:
        """The call that gave a tensor."""
        return self._values[id(tensor)]

    def __contains__(self, tensor: Tensor) -> bool:
        """Whether a call is known that gave it."""
        return id(tensor) in self._values

    def keep(self, value: Any) -> None:
        """Hold on to a value, so that nothing else gets its identity."""
        self._alive.append(value)

    def came_from(self, tensor: Tensor, node: Node) -> None:
        """Remember where a tensor came from."""
        self._values[id(tensor)] = node

    def add(self, node: Node, example: Any) -> None:
        """Append a call under a name that is still free; it depends on what its inputs do."""
        count = self._names[node.name] = self._names.get(node.name, 0) + 1
        node.name += f":{count}" if count > 1 else ""
        node.example, node.version = example, version(example)
        for before in node.inputs:
            before.users.append(node)
        if any(before in self.depends for before in node.inputs):
            self.depends.add(node)
        elif isinstance(example, Tensor) and node.op.startswith("call"):
            with torch._C.DisableTorchFunction():  # noqa: SLF001 - no public way
                self.were[node] = example.clone()
        self.nodes.append(node)
        self.keep(example)
        if isinstance(example, Tensor):
            self.came_from(example, node)

    def stale(self, given: Any) -> str:
        """The name of a tensor among arguments that was changed in place after it was given."""
        nodes = (self._values.get(id(v)) for v in leaves(given) if isinstance(v, Tensor))
        return next((n.name for n in nodes if n and version(n.example) != n.version), "")

    def is_stale(self, tensor: Tensor) -> bool:
        """Whether a tensor was changed in place after a call gave it."""
        node = self._values.get(id(tensor))
        return node is not None and version(node.example) != node.version

    def changed(self, given: Any) -> list[Tensor]:
        """Tensors among arguments that no input went into, and that were changed in place.

        What was changed may be a part of them, of which no call gave the whole.
        """
        tensors = [v for v in leaves(given) if isinstance(v, Tensor) and v in self]
        return [t for t in tensors if self[t] not in self.depends and self.stale(t)]

    def known(self, value: Any) -> bool:
        """Whether a tensor in ``value`` depends on the network's inputs."""
        tensors = (v for v in leaves(value) if isinstance(v, Tensor))
        return any(self._values.get(id(t)) in self.depends for t in tensors)

    def twin(self, tensor: Tensor) -> Tensor | None:
        """The tensor that an unknown one is another name of.

        A ``torch.autograd.Function`` that gives what it got makes such a one, and no call of it is
        seen.
        """
        if tensor in self or id(tensor) in self.attributes or not tensor.numel():
            return None
        for node in reversed(self.nodes):
            other = node.example
            if isinstance(other, Tensor) and node in self.depends and _same_memory(other, tensor):
                return other
        return None


def _same_memory(a: Tensor, b: Tensor) -> bool:
    with torch._C.DisableTorchFunction():  # noqa: SLF001 - no public way
        alike = a.shape == b.shape and a.dtype == b.dtype and a.stride() == b.stride()
        return alike and a.layout == torch.strided and a.data_ptr() == b.data_ptr()


def version(value: Any) -> int:
    """How often a tensor was changed in place; views count with what they view.

    Those that are made in ``torch.inference_mode`` do not count.
    """
    counts = isinstance(value, Tensor) and not value.is_inference()
    return value._version if counts else 0  # noqa: SLF001 - no public way
