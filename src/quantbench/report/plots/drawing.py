"""Plots before they are drawn, and a folder of drawings kept by what they show.

Drawing takes seconds and matplotlib takes one more to import, so a report that shows what the last
one showed does neither.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from quantbench.report.plots import svg
from quantbench.system.atomic import write_atomically


@dataclass(frozen=True)
class Drawing:
    """One plot: what it shows, and the function that draws it.

    Attributes:
        caption: stands below it.
        draw: a function of a module, which gives SVG text and depends on its arguments alone.
        shown: its arguments; dataclasses, mappings, sequences, text and numbers.

    """

    caption: str
    draw: Callable[..., str]
    shown: tuple[Any, ...]

    def svg(self) -> str:
        """Draw it."""
        return self.draw(*self.shown)

    @property
    def digest(self) -> str:
        """Of all that the picture depends on: what it shows, the code that draws, matplotlib."""
        code = [_source(module) for module in (self.draw.__module__, svg.__name__)]
        parts = [version("matplotlib"), self.draw.__qualname__, *code, _plain(self.shown)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Drawings:
    """A folder that keeps drawings as ``<digest>.svg``; it may be deleted at any time.

    Attributes:
        folder: holds nothing else; made when needed.
        used: digests that were asked for.

    """

    folder: Path
    used: set[str] = field(default_factory=set)

    def svg(self, drawing: Drawing) -> str:
        """The drawing from the folder, or a new one that is kept there.

        Raises:
            CannotWrite: it cannot be kept, for instance because the disk is full.

        """
        digest = drawing.digest
        self.used.add(digest)
        path = self.folder / f"{digest}.svg"
        if (kept := _read(path)) is not None:
            return kept
        text = drawing.svg()
        write_atomically(path, _signed(text))
        return text

    def prune(self) -> None:
        """Remove every drawing that was not asked for."""
        for path in self.folder.glob("*.svg"):
            if path.stem not in self.used:
                path.unlink(missing_ok=True)


def _signed(text: str) -> str:
    """SVG text and a comment with its digest, by which a damaged file is known."""
    return f"{text}<!-- sha256 {hashlib.sha256(text.encode()).hexdigest()} -->\n"


def _read(path: Path) -> str | None:
    """A drawing that was kept; ``None`` if there is none, or if it is damaged."""
    try:
        kept = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    text = kept[: kept.rfind("<!-- sha256 ")]
    return text if kept == _signed(text) else None


def _source(module: str) -> str:
    """Source text of a module that was imported."""
    return Path(str(sys.modules[module].__file__)).read_text(encoding="utf-8")


def _plain(value: Any) -> str:
    """JSON in which floats are exact and the order of keys counts: legends follow it."""
    return json.dumps(value, default=asdict)
