"""Tensors that are the same memory as others, or that were changed in place: as values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from quantbench.network.graph.calls import Node, leaves, parts
from quantbench.network.graph.recording import Container
from quantbench.network.graph.views import View, viewed, with_view
from quantbench.network.graph.writer import Writer


class Memory(Writer):
    """Writes down the calls that stand for what happens in memory.

    Attributes:
        views: of what each tensor is a view, by identity.

    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.views: dict[int, View] = {}

    def name_twins(self, given: Any) -> None:
        """Write a call down for each tensor given that is another name of a known one."""
        if (inside := self.here) is None:
            return
        with torch._C.DisableTorchFunction():  # noqa: SLF001 - no public way
            for _, tensor in parts(given):
                if (twin := self.origins.twin(tensor)) is not None:
                    self.function(inside, Tensor.view_as, (twin, twin), {}, tensor)

    def renew(self, given: Any) -> None:
        """Take constants that were changed in place for what they are now."""
        if (inside := self.here) is None:
            return
        for tensor in self.origins.changed(given):
            with torch._C.DisableTorchFunction():  # noqa: SLF001 - no public way
                value = tensor.clone()
            name = f"_constant{len(inside.constants)}"
            inside.constants[name] = value
            inside.changed.append(value)
            local = inside.locals[id(value)] = inside.graph.get_attr(name)
            local.meta["tensor"] = value
            self.origins.add(Node("constant", inside.path, local, "get_attr", value), value)
            # a copy, for it may be changed again, in each pass
            self.function(inside, Tensor.clone, (value,), {}, tensor)
        self.view_again(given)

    def written(self, inside: Container, tensor: Any) -> None:
        """Make what a tensor is a view of anew, after a write into the tensor."""
        view = self.views.get(id(tensor))
        while view is not None and id(view.base) in inside.locals:
            self.function(inside, with_view, (view.base, tensor, *view.spelled()), {}, view.base)
            tensor, view = view.base, self.views.get(id(view.base))

    def view_again(self, given: Any) -> None:
        """View tensors anew that were changed by a write into what they are views of."""
        if (inside := self.here) is None:
            return
        for tensor in leaves(given):
            if isinstance(tensor, Tensor) and self.origins.is_stale(tensor):
                view = self.views.get(id(tensor))
                if view is None or id(view.base) not in inside.locals:
                    continue
                self.view_again(view.base)
                if not self.origins.is_stale(view.base):
                    self.function(inside, viewed, (view.base, *view.spelled()), {}, tensor)

    def is_own(self, inside: Container, tensor: Tensor) -> bool:
        """Whether a container made a tensor itself, so that nothing outside sees what it writes."""
        local = inside.locals.get(id(tensor))
        return local is not None and local.op != "get_attr"
