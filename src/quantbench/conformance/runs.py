"""Checks that run a method in other ways: interrupted, in another process, on odd schemes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch

from quantbench.conformance.families import tiny_network
from quantbench.conformance.observation import SEED, Case, Observation, told
from quantbench.conformance.results import no_reason
from quantbench.conformance.subject import SCHEMES
from quantbench.errors import Unsupported
from quantbench.optimization import step_in_progress
from quantbench.quantization.method import Method, quantize
from quantbench.quantization.scheme import Grid

PROGRAM = "quantbench.conformance.another_process"

_W4A8 = SCHEMES["w4a8"]
ODD = {
    "of additive powers of two": replace(_W4A8, weights=Grid(4, "apot"), acts=Grid(4, "apot")),
    "of powers of two": replace(_W4A8, weights=Grid(4, "pot"), acts=None),
    "whose attention is quantized": replace(_W4A8, placement="attention"),
    "of the first layer alone": replace(_W4A8, which="first"),
    "with 8 bits at both ends": replace(_W4A8, first_last_bits=8),
    "of integers without activation bits": replace(SCHEMES["integer"], acts=None),
}


class Interrupted(KeyboardInterrupt):
    """What Ctrl-C does; no method should catch it."""


def resumes(seen: Observation, folder: Path) -> Iterator[str]:
    """Stopped at its first, a middle and its last report, a run goes on to the same bits.

    A method that reports no progress is begun again from what a finished run left behind.
    """
    if seen.quantized is None:
        return
    case, reports = seen.case, 0

    def count(*_: object) -> None:
        nonlocal reports
        reports += 1

    with patch.object(step_in_progress, "EVERY", 0.0):  # every state of a step is kept
        if case.run(progress=count, scratch=folder / "whole").digest != seen.quantized.digest:
            yield f"gives other bits when it is given a scratch folder {case}"
        for stop in sorted({1, (reports + 1) // 2, reports} - {0}):
            scratch = folder / f"stopped-{stop}"
            _stopped(case, stop, scratch)
            if case.run(scratch=scratch).digest != seen.quantized.digest:
                yield f"stopped at report {stop} of {reports}, goes on to other bits {case}"
        for kept in _parts(folder / "whole", folder / "parts"):
            if case.run(scratch=kept).digest != seen.quantized.digest:
                yield f"goes on from part of its finished steps to other bits {case}"
    if case.run(scratch=folder / "whole").digest != seen.quantized.digest:
        yield f"a second run in the scratch folder of a finished one gives other bits {case}"


def _stopped(case: Case, stop: int, scratch: Path) -> None:
    """Leave what a run that is stopped at one of its reports leaves."""
    left = stop

    def report(*_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise Interrupted

    with suppress(Interrupted):
        case.run(progress=report, scratch=scratch)


def _parts(whole: Path, parts: Path) -> Iterator[Path]:
    """Folders with the oldest file, and with all but the newest one, of a finished run."""
    files = sorted((p for p in whole.rglob("*") if p.is_file()), key=lambda p: p.stat().st_mtime_ns)
    for keep in sorted({1, len(files) - 1}) if len(files) > 1 else ():
        for path in files[:keep]:
            copy = parts / str(keep) / path.relative_to(whole)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
        yield parts / str(keep)


def refuses_with_a_reason(method: Method, family: str) -> Iterator[str]:
    """Schemes that a method may not have thought of: it works, or raises Unsupported and why."""
    for what, scheme in ODD.items():
        net, calib = tiny_network(family)
        where = f"a scheme {what} on the {family} network"
        try:
            quantize(method, net, calib, scheme, seed=SEED)
        except Unsupported as e:
            yield from no_reason(str(e), where)
        except Exception as e:  # noqa: BLE001 - whatever else a method raises is what is looked for
            yield f"must work, or raise Unsupported and say why; for {where} it raises {told(e)}"


def same_elsewhere(name: str, seen: Mapping[str, Observation]) -> Iterator[str]:
    """Another process, in which strings hash and sets are ordered otherwise, gives the same bits.

    Args:
        name: of the method, as the registry has it.
        seen: observations by ``FAMILY/SCHEME``.

    """
    here = {key: o.quantized.digest for key, o in seen.items() if o.quantized is not None}
    environment, threads = {**os.environ, "PYTHONHASHSEED": "12345"}, str(torch.get_num_threads())
    command = [sys.executable, "-m", PROGRAM, threads, name, *here]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        yield f"does not run in another process: {done.stderr.strip()}"
        return
    there = json.loads(done.stdout.splitlines()[-1])
    for key, digest in here.items():
        if there[key] != digest:
            why = "nothing may depend on the process, such as on the order of a set"
            yield f"another process gives other bits {seen[key].case}: {why}"
