"""What was read of source files before, kept by their content: parsing a hundred takes a second.

One file holds all entries. Each stands under a digest of the code, of the code that reads it, and
of Python, so that an entry is right or is not found; a file that cannot be read or written costs
the time of parsing, nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import platform
from dataclasses import dataclass, field
from pathlib import Path

from quantbench.data.roots import cache_root
from quantbench.errors import QuantbenchError
from quantbench.runs import mentions
from quantbench.runs.mentions import Mentions
from quantbench.system.atomic import write_atomically


@dataclass
class Parsed:
    """Digests and mentions of source files by what they were read from.

    Attributes:
        path: of the file that keeps them.
        entries: digest of the code without comments, names and uses, by key.
        fresh: whether there is something to keep.

    """

    path: Path
    entries: dict[str, list[object]] = field(default_factory=dict)
    fresh: bool = False

    @classmethod
    def read(cls, path: Path) -> Parsed:
        """What an earlier process kept."""
        try:
            return cls(path, dict(json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError):  # absent, or damaged
            return cls(path)

    def get(self, key: str) -> tuple[str, Mentions] | None:
        """An entry, if there is one."""
        try:
            digest, names, uses = self.entries[key]
            return str(digest), Mentions(frozenset(map(str, names)), frozenset(map(str, uses)))  # type: ignore[call-overload]
        except (KeyError, ValueError, TypeError):
            return None

    def put(self, key: str, digest: str, found: Mentions) -> None:
        """Take note of an entry."""
        self.entries[key] = [digest, sorted(found.names), sorted(found.uses)]
        self.fresh = True

    def keep(self) -> None:
        """Write what is new."""
        if self.fresh:
            with contextlib.suppress(QuantbenchError):  # a full or read-only disk
                write_atomically(self.path, json.dumps(self.entries))
            self.fresh = False


@functools.cache
def parsed() -> Parsed:
    """Those of the cache folder."""
    return Parsed.read(cache_root() / "sources.json")


def key(code: bytes, module: str, *, is_package: bool) -> str:
    """Of all that an entry follows from."""
    about = repr((_readers(), module, is_package)).encode()
    return hashlib.sha256(about + code).hexdigest()


@functools.cache
def _readers() -> tuple[str, str]:
    """The code that reads sources, and the Python whose grammar it follows."""
    files = (Path(mentions.__file__), Path(__file__).with_name("source_hash.py"))
    code = b"".join(file.read_bytes() for file in files)
    return hashlib.sha256(code).hexdigest(), platform.python_version()
