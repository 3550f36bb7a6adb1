"""Several threads give one's codes, whatever is woken, preempted, thrown or freed meanwhile."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from quantbench.errors import BadInput
from quantbench.integer import oracle
from quantbench.integer.backends.native import Native
from quantbench.integer.ir import Flatten, Format, Island, Program
from quantbench.integer.testing import fuzz
from quantbench.integer.testing.sanitize import SOURCES
from tests.helpers.chains import Chain

needs_native = pytest.mark.skipif(
    Native("").available() is not None, reason=f"{Native('').available()}"
)
COMPILER = os.environ.get("CXX", "g++")
needs_compiler = pytest.mark.skipif(
    shutil.which(COMPILER) is None, reason=f"no compiler {COMPILER}"
)


@pytest.fixture
def busy() -> Iterator[None]:
    """An endless loop for each processor: threads lose theirs in the middle of their work."""
    with ExitStack() as running:
        for _ in range(os.cpu_count() or 1):
            loop = running.enter_context(
                subprocess.Popen([sys.executable, "-c", "while True: pass"])
            )
            running.callback(loop.kill)
        yield


def chain(*, large: bool) -> Program:
    """Layers of a few microseconds each; ``large``: weights that images pass together."""
    c = Chain((3, 20, 20))
    x = c.conv("input", 32, 3)
    y = c.conv(x, 32, 3, residual=x, acts=4)
    z = c.conv(y, 48, 3, stride=2, bits=4, acts=4)
    if large:
        z = c.conv(z, 256, 3)
        z = c.conv(z, 256, 3, stride=2)
    c.push(Flatten(name="flat", inputs=(z,), output="flat", out=c.formats[z]))
    c.conv("flat", 10, logits=True)
    return c.program()


@needs_compiler
@pytest.mark.parametrize(
    ("flags", "rounds"), [((), 1000), (("-fsanitize=thread",), 100)], ids=["plain", "sanitized"]
)
def test_a_team_keeps_its_promises(flags: tuple[str, ...], rounds: int, tmp_path: Path) -> None:
    """Every item once, all threads help, exceptions arrive, teams come and go; without a race."""
    program = tmp_path / "threads_stress"
    sources = Path(__file__).parents[2] / "helpers/threads_stress.cpp", SOURCES / "base/threads.cpp"
    command = [COMPILER, "-std=c++20", "-O1", "-g1", "-pthread", *flags]
    command += [f"-I{SOURCES}", *map(str, sources), "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode and flags and "tsan" in built.stderr:
        pytest.skip(f"{COMPILER} has no thread sanitizer")
    assert built.returncode == 0, built.stderr
    ran = subprocess.run(
        [program, str(rounds)], capture_output=True, text=True, check=False, timeout=600
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "every promise was kept\n"


@needs_native
@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("large", [False, True])
def test_many_runs_give_the_oracles_codes(large: bool) -> None:
    program = chain(large=large)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (7, *program.shape)).astype(np.uint8)
    expected = oracle.run(program, images)[program.output].reshape(7, 10)
    for threads in (2, 3, 4):
        for worth in (0, None):
            compiled = Native(worth=worth).compile(program, threads=threads)
            for run in range(150):
                first, count = run % 3, (1, 2, 4)[run // 3 % 3]
                got = compiled(images[first : first + count])
                np.testing.assert_array_equal(
                    got, expected[first : first + count], f"{threads} threads, run {run}"
                )


@needs_native
@pytest.mark.usefixtures("busy")
def test_random_programs_in_batches() -> None:
    """More images than threads, fewer, and as many; every operator there is."""
    for seed in range(40):
        draw = fuzz.seeded(seed)
        program = fuzz.any_program(draw)
        images = fuzz.codes(draw, program, 5)
        expected = oracle.run(program, images)[program.output].reshape(5, -1)
        compiled = Native(worth=0).compile(program, threads=2 + seed % 3, images=seed % 4)
        for n in (5, 1, 2, 3):
            np.testing.assert_array_equal(
                compiled(images[:n]), expected[:n], f"program {seed}, {n} images"
            )


@needs_native
@pytest.mark.usefixtures("busy")
def test_networks_come_and_go_while_their_threads_idle() -> None:
    program = chain(large=False)
    images = np.random.default_rng(0).integers(0, 256, (2, *program.shape)).astype(np.uint8)
    expected = Native().compile(program)(images)
    kept = [Native(worth=0).compile(program, threads=4) for _ in range(3)]
    for run in range(60):
        fresh = Native(worth=0).compile(program, threads=2 + run % 3)
        if run % 4:
            np.testing.assert_array_equal(fresh(images), expected)
        del fresh
        np.testing.assert_array_equal(kept[run % 3](images), expected)


@needs_native
@pytest.mark.usefixtures("busy")
def test_a_bad_image_among_many_is_refused_and_the_next_batch_is_right() -> None:
    program = chain(large=True)
    images = np.random.default_rng(0).normal(0, 1, (9, *program.shape)).astype(np.float32)
    bad = images.copy()
    bad[4, 1, 3, 3] = np.nan
    expected = Native().compile(program)(images)
    compiled = Native(worth=0).compile(program, threads=3)
    for _ in range(20):
        with pytest.raises(BadInput, match="NaN"):
            compiled(bad)
        np.testing.assert_array_equal(compiled(images), expected)


@needs_native
def test_an_exception_of_a_foreign_operator_arrives() -> None:
    c = Chain((4, 9, 9))
    x = c.conv("input", 8, 3)
    fails = [True]

    def function(t):
        if fails[0]:
            raise ZeroDivisionError("in the middle")
        return t

    c.push(Island(
        name="id", inputs=(x,), output="id", out=Format(0.02, 3), function=function,
        shape=(8, 9, 9), reason="none",
    ))  # fmt: skip
    c.conv("id", 3, 9, pad=0, logits=True)
    images = c.images(6)
    compiled = Native(worth=0).compile(c.program(), threads=3)
    for _ in range(5):
        fails[0] = True
        with pytest.raises(ZeroDivisionError, match="in the middle"):
            compiled(images)
        fails[0] = False
        expected = oracle.run(c.program(), images)["t2"].reshape(6, 3)
        np.testing.assert_array_equal(compiled(images), expected)
