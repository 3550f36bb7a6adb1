"""``Network``: a model that is folded and traced, with its layers, blocks and rewrites.

The package itself can be called: ``quantbench.network("torchvision/resnet18")`` is a network by
name, see :func:`quantbench.network.named.network`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any


class _Package(ModuleType):
    """A package that is a function, too: both are called ``network``."""

    def __call__(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """A network by name."""
        from quantbench.network.named import network

        return network(name, *args, **kwargs)


if TYPE_CHECKING:
    from quantbench.network.named import network as _network

    by_name = _network
else:
    by_name = sys.modules[__name__]
    by_name.__class__ = _Package
