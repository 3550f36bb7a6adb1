"""Running the jobs of a sweep one after the other, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantbench.errors import CannotWrite, QuantbenchError

if TYPE_CHECKING:
    from quantbench.evidence.result import Result
    from quantbench.runs.cell import Cell
    from quantbench.runs.lab import Lab
    from quantbench.sweeps.plan import Job


@dataclass(frozen=True)
class Done:
    """A job that came to its end.

    Attributes:
        job: which.
        found: its result; ``None`` where it has none.
        error: why it has none, in words.

    """

    job: Job
    found: Result | None
    error: str = ""


# takes the jobs that are still to do and a lab, gives them back as they end, in any order
Engine = Callable[[Iterable[tuple["Job", "Cell"]], "Lab"], Iterator[Done]]


def here(jobs: Iterable[tuple[Job, Cell]], lab: Lab) -> Iterator[Done]:
    """One after the other.

    Raises:
        CannotWrite: results cannot be kept.

    """
    for job, cell in jobs:
        try:
            found = lab.result(cell)
        except CannotWrite:
            raise
        except QuantbenchError as e:
            yield Done(job, None, str(e))
        except Exception as e:  # noqa: BLE001 - what one cell cannot do does not stop the others
            yield Done(job, None, f"{type(e).__name__}: {e}")
        else:
            yield Done(job, found)
