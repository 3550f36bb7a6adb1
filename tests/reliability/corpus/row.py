"""One row of the table of bad inputs, and how it is met."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

BAD_INPUT = 2  # the exit code of every error that is written for people

Meets = tuple[str, ...] | Callable[[Path], object]


@dataclass(frozen=True)
class Bad:
    """One bad input.

    Attributes:
        kind: what it damages, such as ``claims``.
        wrong: what is wrong with it, in words; with the kind it names the row.
        make: writes it into a folder: the working folder of who meets it, with packages in
            ``site`` and data in ``data``.
        meets: the words of the command that meets it, with ``{}`` for what ``make`` returned; or a
            call that loads it, made behind the command line's own door.
        says: what the error must contain, besides no traceback.
        code: the exit code.

    """

    kind: str
    wrong: str
    make: Callable[[Path], object]
    meets: Meets
    says: tuple[str, ...]
    code: int = BAD_INPUT

    @property
    def name(self) -> str:
        """Of its test."""
        return f"{self.kind}: {self.wrong}"

    def words(self, made: object) -> list[str]:
        """Of the command, for what was made."""
        assert not callable(self.meets)
        return [word.format(made) for word in self.meets]


def file(name: str, content: str | bytes) -> Callable[[Path], Path]:
    """Writes one file below the folder."""

    def make(folder: Path) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return make


def package(folder: Path, name: str, group: str, points: Mapping[str, str]) -> Path:
    """Install a package that says what it brings; the folder of its modules."""
    site = folder / "site"
    about = site / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"[{group}]", *(f"{key} = {value}" for key, value in points.items())]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
    (site / name).mkdir()
    return site / name
