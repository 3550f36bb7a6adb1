"""A method as a claim names it, which is imported only when it runs.

Methods import torch, which takes seconds; the key of a cell only needs to know which fields a
method has. So a description is kept on the disk, by a digest of all that it follows from.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantbench.data.roots import cache_root
from quantbench.errors import QuantbenchError
from quantbench.quantization.registry import make
from quantbench.runs.description import Description, canonical, describe
from quantbench.runs.source_hash import code_digest, method_module, source_hashes
from quantbench.system.atomic import write_atomically

_MAKERS = ("quantbench.quantization.registry", "quantbench.runs.description")


@dataclass(frozen=True)
class Recipe:
    """A method by its registered name, ``a+b`` for a pipeline, with some of its hyperparameters.

    Attributes:
        method: as :func:`quantbench.quantization.registry.make` takes it.
        options: pairs, hashable; ``dict(options)`` gives the arguments.

    """

    method: str
    options: tuple[tuple[str, Any], ...] = ()

    def make(self) -> Any:
        """The method itself.

        Raises:
            BadInput: there is no such method or option.

        """
        return make(self.method, dict(self.options))

    def description(self) -> Description:
        """What identifies the method; nothing is imported where the same was described before.

        Raises:
            BadInput: there is no such method or option.

        """
        return _description(self)


@functools.lru_cache(maxsize=1024)
def _description(recipe: Recipe) -> Description:
    path = cache_root() / "methods" / f"{_digest(recipe)}.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Description(kept["plain"], kept["given"], tuple(kept["modules"]))
    except (OSError, ValueError, KeyError, TypeError):  # absent, or damaged
        found = describe(recipe.make())
    # a read-only or full disk only costs the next run its time
    with contextlib.suppress(QuantbenchError):
        write_atomically(path, json.dumps(vars(found)))
    return found


def _digest(recipe: Recipe) -> str:
    """Of all that a description follows from: names and code, and what is installed."""
    modules = [method_module(step) for step in recipe.method.split("+")]
    known = {
        "recipe": [recipe.method, recipe.options],
        "modules": modules,
        "source": source_hashes(modules),
        "makers": [code_digest(module) for module in _MAKERS],
        "installed": _installed(),
    }
    return hashlib.sha256(canonical(known).encode()).hexdigest()


@functools.cache
def _installed() -> list[str]:
    """Python and every distribution, as ``name-version.dist-info``."""
    folders = (Path(entry) for entry in sys.path)
    found = {path.name for folder in folders for path in folder.glob("*.dist-info")}
    return [platform.python_version(), *sorted(found)]
