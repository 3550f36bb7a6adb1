"""Comparing runtimes with the simulation: what is counted, and that a wrong code is found."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from quantbench.integer.backends.base import Array, Backend, Compiled, backend
from quantbench.integer.backends.native import Native
from quantbench.integer.ir import Program
from quantbench.integer.testing import audit as module
from quantbench.integer.testing import fuzz
from quantbench.integer.testing.audit import audit, lines


def sample() -> tuple[Program, Array]:
    draw = fuzz.seeded(3)
    program = fuzz.any_program(draw)
    return program, fuzz.codes(draw, program, 5)


def test_oracle_and_native_have_every_code() -> None:
    program, x = sample()
    names = [n for n in ("oracle", "native") if n == "oracle" or backend(n).available() is None]
    found = audit(program, [x[:3], x[3:]], names)
    sizes = sum(int(np.prod(s)) for s in program.shapes.values())
    for tally in found.values():
        assert (tally.images, tally.different, tally.first, tally.classes) == (5, 0, "", 5)
        assert tally.compared == 5 * sizes
    assert "100.00%" in lines("net", found)[2]


def test_the_oracle_sees_as_many_images_as_asked() -> None:
    program, x = sample()
    assert audit(program, [x[:3], x[3:]], ["oracle"], oracle=4)["oracle"].images == 4
    assert audit(program, [x[:3], x[3:]], ["oracle"], oracle=2)["oracle"].images == 2


class Wrong(Compiled):
    """One code of the second tensor is three steps off."""

    def __init__(self, program: Program) -> None:
        self.inner, self.name = Native().compile(program, keep=True), program.ops[0].output

    def __call__(self, images: Array) -> Array:
        return self.inner(images)

    def codes(self, images: Array) -> Mapping[str, Array]:
        found = dict(self.inner.codes(images))
        changed = found[self.name].copy()
        at = changed.reshape(-1)
        at[0] = at[0] + 3 if at[0] < 128 else at[0] - 3
        return {**found, self.name: changed}


@pytest.mark.skipif(Native("").available() is not None, reason=f"{Native('').available()}")
def test_a_wrong_code_is_found_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Backend):
        name = "broken"

        def available(self) -> str | None:
            return None

        def compile(self, program: Program, *, threads: int = 1) -> Compiled:  # noqa: ARG002 - as every backend's
            return Wrong(program)

    monkeypatch.setattr(module, "backend", lambda _: Broken())
    program, x = sample()
    tally = audit(program, [x], ["broken"])["broken"]
    assert (tally.different, tally.largest, tally.first) == (1, 3.0, program.ops[0].output)
    assert f"from {tally.first} on" in lines("net", {"broken": tally})[2]


def test_backends_that_cannot_run_it_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Absent(Backend):
        name = "absent"

        def available(self) -> str | None:
            return "not installed"

        def compile(self, program: Program, *, threads: int = 1) -> Compiled:  # noqa: ARG002 - as every backend's
            raise AssertionError

    monkeypatch.setattr(module, "backend", lambda _: Absent())
    said: list[str] = []
    program, x = sample()
    assert audit(program, [x], ["absent"], say=said.append) == {}
    assert said == ["without absent: not installed"]
