"""Values that take long to compute, kept by all that they depend on; may be deleted at any time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pkgutil import iter_modules
from typing import Any

from quantbench import evidence
from quantbench.data.roots import cache_root
from quantbench.errors import CannotWrite
from quantbench.runs.source_hash import code_digest
from quantbench.system.atomic import write_atomically


def kept(module: str, about: str, make: Callable[[], Any]) -> Any:
    """A value of JSON's types, from the cache or made anew.

    Args:
        module: whose code makes it; the value is made anew when that or the statistics change.
        about: everything else that it depends on.
        make: gives it.

    """
    code = json.dumps(_code(module), sort_keys=True)
    key = hashlib.sha256(f"{module}\0{code}\0{about}".encode()).hexdigest()[:32]
    path = cache_root() / "report" / f"{module.rpartition('.')[2]}-{key}.json"
    with suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    value = make()
    with suppress(CannotWrite):  # a full disk only costs the next report its time
        write_atomically(path, json.dumps(value))
    return value


def _code(module: str) -> dict[str, str]:
    """Digests of a module and of all statistics, which no key of a result has: they only judge."""
    statistics = (f"{evidence.__name__}.{found.name}" for found in iter_modules(evidence.__path__))
    return {name: code_digest(name) for name in (module, *statistics)}
