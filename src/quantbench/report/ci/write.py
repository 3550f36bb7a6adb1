"""The files and lines that ``--junit``, ``--github`` and ``--summary`` ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantbench.errors import CannotWrite
from quantbench.report.ci.case import Case
from quantbench.report.ci.formats import github, junit, summary
from quantbench.system.atomic import write_atomically


@dataclass(frozen=True)
class Wanted:
    """What was asked for.

    Attributes:
        junit: file of JUnit XML, written anew.
        github: whether to print annotations.
        summary: Markdown file, which is added to.

    """

    junit: str | None = None
    github: bool = False
    summary: str | None = None


def write(
    cases: Sequence[Case], title: str, wanted: Wanted, say: Callable[[str], object] = print
) -> None:
    """Write what is wanted of these cases.

    Args:
        cases: in order.
        title: of the suite and the summary.
        wanted: files and lines.
        say: prints a line.

    Raises:
        CannotWrite: a file cannot be written.

    """
    if wanted.github:
        for line in github(cases):
            say(line)
    if wanted.junit:
        write_atomically(Path(wanted.junit), junit(cases, title))
    if wanted.summary:
        try:
            with Path(wanted.summary).open("a", encoding="utf-8") as file:
                file.write(summary(cases, title) + "\n")
        except OSError as e:
            raise CannotWrite(f"cannot write {wanted.summary}: {e.strerror}") from e
