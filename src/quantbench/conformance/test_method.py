"""What every method must hold: ``pytest --pyargs quantbench.conformance --method NAME``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from quantbench.conformance import integers, interface, results, runs
from quantbench.conformance.observation import Observation
from quantbench.quantization.method import Method
from quantbench.quantization.registry import make


def nothing(wrong: Iterable[str]) -> None:
    """Fail with all that is wrong."""
    if found := list(wrong):
        pytest.fail("\n".join(found), pytrace=False)


def usable(seen: Observation) -> Observation:
    """Skip where the method says that it does not work, or has no whole result to look at."""
    if seen.refusal:
        pytest.skip(seen.refusal)
    if list(results.works_or_says_why(seen)):
        pytest.skip("there is no whole result, which test_it_works_or_says_why tells")
    return seen


def test_it_is_a_frozen_documented_value(name: str) -> None:
    """Its fields are its configuration, its docstring what is shown of it."""
    nothing(interface.value(make(name)))


def test_it_works_somewhere(everywhere: Mapping[str, Observation]) -> None:
    """A method that refuses everything would pass all else."""
    if not any(seen.quantized for seen in everywhere.values()):
        why = {seen.refusal or seen.error for seen in everywhere.values()}
        pytest.fail("works on no network: " + "; ".join(sorted(why)), pytrace=False)


def test_it_works_or_says_why(seen: Observation) -> None:
    """On every model family: a whole network with finite outputs, or Unsupported and a reason."""
    nothing(results.works_or_says_why(seen))


def test_unsupported_schemes_have_a_reason(method: Method, family: str) -> None:
    """Grids and placements that a method may not have thought of work, or raise Unsupported."""
    nothing(runs.refuses_with_a_reason(method, family))


def test_the_same_seed_gives_the_same_bits(seen: Observation) -> None:
    """A second time, in this process."""
    nothing(results.repeats(usable(seen)))


def test_another_process_gives_the_same_bits(
    name: str, everywhere: Mapping[str, Observation]
) -> None:
    """One in which strings hash otherwise."""
    nothing(runs.same_elsewhere(name, everywhere))


def test_global_generators_are_untouched(seen: Observation) -> None:
    """Of torch, numpy and Python."""
    nothing(results.generators_untouched(usable(seen)))


def test_the_network_is_unchanged(seen: Observation) -> None:
    """Weights, buffers, batch norm and calibration set, to the bit; no hook is left behind."""
    nothing(results.network_unchanged(usable(seen)))


def test_codes_are_on_their_grids(seen: Observation) -> None:
    """Weights and activations, with no more levels than their bits give."""
    nothing(results.on_grid(usable(seen)))


def test_save_and_load_give_the_same_network(seen: Observation, tmp_path: Path) -> None:
    """Its digest, and its outputs to the bit."""
    nothing(results.saves_and_loads(usable(seen), tmp_path))


def test_an_interrupted_run_resumes_to_the_same_bits(
    resumable: Observation, tmp_path: Path
) -> None:
    """Stopped early, midway and at the end, and with part of its finished steps."""
    nothing(runs.resumes(usable(resumable), tmp_path))


def test_it_lowers_to_integers_exactly(lowerable: Observation) -> None:
    """Simulation and native kernels give the oracle's codes, or lowering says why it cannot be."""
    nothing(integers.lowers_exactly(usable(lowerable)))
