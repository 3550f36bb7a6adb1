"""Is what was simulated what runs? Every code of every tensor, backend by backend.

The simulation is compared with the oracle and with each backend. Ours must not differ in a single
code; how far the others are from the definition is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from quantbench.errors import Unsupported
from quantbench.integer import oracle as definition
from quantbench.integer.backends.base import Array, Compiled, backend
from quantbench.integer.backends.native import Native
from quantbench.integer.ir import Program

EXACT = ("oracle", "native")

OURS = (*EXACT, "intmm")  # none of their codes may differ


@dataclass
class Tally:
    """How a runtime's tensors compare with the simulation's.

    Attributes:
        images: compared so far.
        compared: codes, and float32 logits, compared so far.
        different: those that differ.
        largest: largest difference of codes, in steps.
        first: the first tensor, in execution order, that ever differed; empty if none did.
        classes: images whose best class is the simulation's.

    """

    images: int = 0
    compared: int = 0
    different: int = 0
    largest: float = 0.0
    first: str = ""
    classes: int = 0

    def add(
        self, got: Mapping[str, Array], expected: Mapping[str, Array], program: Program
    ) -> None:
        """Count one batch."""
        order = list(expected)
        for name in (n for n in order if n in got):
            a, b = got[name].reshape(expected[name].shape), expected[name]
            off = a != b
            self.compared += off.size
            if count := int(np.count_nonzero(off)):
                self.different += count
                if not self.first or order.index(name) < order.index(self.first):
                    self.first = name
                if program.formats[name] is not None:
                    steps = np.abs(a.astype(np.int16) - b.astype(np.int16))
                    self.largest = max(self.largest, float(steps.max()))
        logits = (t[program.output] for t in (got, expected))
        a, b = (t.reshape(len(t), -1).argmax(1) for t in logits)
        self.images, self.classes = self.images + len(b), self.classes + int((a == b).sum())


def audit(
    program: Program,
    batches: Iterable[Array],
    names: Sequence[str],
    *,
    oracle: int = 0,
    threads: int = 1,
    say: Callable[[str], None] = print,
) -> dict[str, Tally]:
    """Compare runtimes with the simulation.

    Args:
        program: what to run.
        batches: float32 images (N, C, H, W).
        names: backends; ``oracle`` is the definition, run in NumPy.
        oracle: images that the oracle sees, 0 for all: it is slow on large networks.
        threads: of the native kernels.
        say: told which backends are left out, and why.

    """
    import torch

    from quantbench.integer.simulate import Simulation

    simulation, runs = Simulation(program), _compiled(program, names, threads, say)
    found = {name: Tally() for name in names if name in runs or name == "oracle"}
    for x in batches:
        expected = {k: v.numpy() for k, v in simulation.codes(torch.from_numpy(x)).items()}
        for name, tally in found.items():
            if name != "oracle":
                shows, timed = runs[name]
                tally.add({**shows.codes(x), program.output: timed(x)}, expected, program)
            elif not oracle or tally.images < oracle:
                part = x[: oracle - tally.images] if oracle else x
                seen = {k: v[: len(part)] for k, v in expected.items()}
                tally.add(definition.run(program, part), seen, program)
    return found


def _compiled(
    program: Program, names: Sequence[str], threads: int, say: Callable[[str], None]
) -> dict[str, tuple[Compiled, Compiled]]:
    """Backends that are here and can run the program, each as two compiled programs.

    The first shows its tensors; the second is what is timed, and gives the logits. They differ for
    native, whose tensors share memory when it is timed, and are all kept when it shows them.
    """
    runs: dict[str, tuple[Compiled, Compiled]] = {}
    for name in (n for n in names if n != "oracle"):
        found = backend(name)
        why = found.available()
        try:
            if not why:
                ours = name == "native"
                timed = found.compile(program, threads=threads if ours else 1)
                shows: Compiled = timed
                if ours:
                    shows = Native().compile(program, threads=threads, keep=True)
                runs[name] = shows, timed
        except Unsupported as e:
            why = str(e)
        if why:
            say(f"without {name}: {why}")
    return runs


def lines(title: str, found: Mapping[str, Tally]) -> list[str]:
    """The comparison as text."""
    head = f"{'':14}{'images':>8}{'compared':>16}{'different':>14}{'share':>12}{'steps off':>11}"
    text = [f"{title}: against the simulation, code by code", f"{head}{'same class':>12}"]
    for name, t in found.items():
        share = t.different / t.compared if t.compared else 0.0
        line = f"{name:14}{t.images:8}{t.compared:16,}{t.different:14,}"
        line += f"{share:12.2e}{t.largest:11.0f}{t.classes / max(1, t.images):12.2%}"
        text.append(line + (f"  from {t.first} on" if t.first else ""))
    return text
