"""What every method must hold, on a tiny network of every model family.

``pytest --pyargs quantbench.conformance --method NAME`` runs all checks, a test each; ``NAME`` is a
registered method's, a pipeline's such as ``nearest+ibc``, or ``all``. :func:`check` is the quick
call, for a test of a plugin's own: every check on the residual network, in this process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from quantbench.conformance.families import small_network as small_network
from quantbench.conformance.families import tiny_network
from quantbench.conformance.integers import lowers_exactly
from quantbench.conformance.interface import value
from quantbench.conformance.observation import Case, observe
from quantbench.conformance.results import (
    generators_untouched,
    network_unchanged,
    on_grid,
    repeats,
    saves_and_loads,
    works_or_says_why,
)
from quantbench.conformance.runs import refuses_with_a_reason, resumes
from quantbench.conformance.subject import SCHEMES, complete, quick, schemes_of
from quantbench.quantization.method import Method

ON_RESULTS = (repeats, generators_untouched, network_unchanged, on_grid, lowers_exactly)


def check(method: Method) -> None:
    """Run every check on the residual network; the first that fails raises AssertionError.

    Args:
        method: run with little work, as its ``quick`` says; a correction or a rewrite with rounding
            to nearest.

    """
    for failure in chain(works_nowhere(method), failures(method)):
        raise AssertionError(f"{method.name}: {failure}")


def works_nowhere(method: Method) -> Iterator[str]:
    """A method that refuses everything, and so would pass all else."""
    whole, net = complete(quick(method)), tiny_network("residual")[0]
    if all(whole.unsupported(net, scheme) for scheme in SCHEMES.values()):
        yield f"supports none of the schemes {', '.join(SCHEMES)} on the residual network"


def failures(method: Method, families: Sequence[str] = ("residual",)) -> Iterator[str]:
    """What the method does wrong, in words, on networks of these families."""
    yield from value(method)
    whole = complete(quick(method))
    for family in families:
        for scheme in schemes_of(family):
            yield from _of_case(Case(whole, family, scheme))
        yield from refuses_with_a_reason(whole, family)


def _of_case(case: Case) -> Iterator[str]:
    """What is wrong under one scheme; without a result that works nothing more is looked at."""
    seen = observe(case)
    unusable = list(works_or_says_why(seen))
    yield from unusable
    if seen.quantized is None or unusable:
        return
    for one in ON_RESULTS:
        yield from one(seen)
    with tempfile.TemporaryDirectory() as folder:
        yield from saves_and_loads(seen, Path(folder) / "saved")
        if case.scheme == "w4a8":
            yield from resumes(seen, Path(folder) / "scratch")
