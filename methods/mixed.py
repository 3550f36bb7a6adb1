"""Mixed precision of BRECQ (Li et al., ICLR 2021, section 3.4, algorithm 2).

Symbols: c the bits of every layer, L(c) the loss that they cost, H(c) their size or latency, delta
its limit: min L(c) subject to H(c) <= delta, c in {2, 4, 8}^n. The Hessian being block-diagonal, L
is a sum over blocks. Within a block it is the sum of the losses of its layers alone (the diagonal)
and of what layers at the fewest bits cost together beyond that (off the diagonal); more bits cost
too little for the second term to matter, says the paper. The paper's released code has no mixed
precision, and the paper's text was not at hand: section, algorithm and what it says are recalled,
and what they leave open is said at each field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain, combinations
from typing import ClassVar

import numpy as np
import torch

from quantbench import (
    BadInput,
    Grid,
    Job,
    Method,
    Network,
    Override,
    Paper,
    Quantized,
    Scheme,
    Unsupported,
)
from quantbench.latency.layers import measured
from quantbench.network.hooks import batches
from quantbench.optimization.distance import KINDS, distance, mean_distance
from quantbench.optimization.finished_steps import FinishedSteps
from quantbench.optimization.mixed_bits import Bits, cost, no_such_bits, swapped
from quantbench.optimization.units import units
from quantbench.quantization import papers
from quantbench.quantization.registry import make
from quantbench.search.genetic import Genes, Problem, exact, genetic

# inputs of the timed kernels where the scheme has none
TIMED_ACTS = Grid(8, symmetric=False, range="minmax")

ACT_STEPS = 5_000  # BRECQ's own number

Groups = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class BRECQMixed(Method):
    """Choose weight bits layer by layer, by a genetic search.

    What follows in the pipeline rounds to them, as in ``brecq-mixed+brecq``.

    Attributes:
        bits: to choose from.
        gain: what is limited: ``size``, or ``latency`` on the integer kernels of this machine,
            measured layer by layer, so that the choice may differ from run to run.
        limit: as a share of what all layers at the most bits need; the average of ``size`` is 4
            bits at 0.5.
        absolute: the limit is in bytes or milliseconds instead.
        search: ``genetic`` (the paper's), or ``exact`` (integer programming). Both run, and the gap
            is logged.
        population: of the genetic search.
        iterations: its generations.
        mutation: probability with which a mutant's layer is drawn again.
        measure: loss between the network's outputs before and after: ``kl``, ``mse`` or
            ``accuracy``.
        examples: calibration examples that losses are measured on.
        together: largest group of layers whose joint losses are measured; blocks of more layers are
            cut, since a group of n takes 2^n - n - 1 measurements.
        rounding: how layers are calibrated at each number of bits before their losses are
            measured: ``reconstructed``, by BRECQ with all layers at these bits (the paper's), or
            ``nearest``. Either way a layer that is measured lies among others at the most bits,
            behind which it was not learnt.
        steps: iterations of each unit of such a reconstruction, and at most 5,000 of them for the
            step sizes of its activations.
        lr: its learning rate.

    """

    name: ClassVar[str] = "brecq-mixed"
    paper: ClassVar[Paper] = papers.BRECQ
    uses: ClassVar[tuple[str, ...]] = ("nearest", "brecq")
    # of a small network, the two layers at the ends may take more than half
    quick: ClassVar[Mapping[str, object]] = {
        "limit": 0.75,
        "iterations": 3,
        "population": 6,
        "examples": 16,
        "steps": 3,
    }
    bits: tuple[int, ...] = (2, 4, 8)
    gain: str = "size"
    limit: float = 0.5
    absolute: bool = False
    search: str = "genetic"
    population: int = 50
    iterations: int = 100
    mutation: float = 0.1
    measure: str = "kl"
    examples: int = 256
    together: int = 4
    rounding: str = "reconstructed"
    steps: int = 20_000
    lr: float = 1e-3

    def __post_init__(self) -> None:
        """Reject unknown words and sizes that no search has."""
        for what, value, known in (
            ("gain", self.gain, ("size", "latency")),
            ("search", self.search, ("genetic", "exact")),
            ("measure", self.measure, KINDS),
            ("rounding", self.rounding, ("reconstructed", "nearest")),
        ):
            if value not in known:
                raise BadInput(f"{what} {value!r}: choose {', '.join(known)}")
        if len(set(self.bits)) < 2:
            raise BadInput(
                "mixed precision needs at least two numbers of bits to choose from, such as "
                "bits = [2, 4, 8]"
            )
        if self.examples < 1:
            raise BadInput("losses are measured on at least one example")
        if self.population < 2 or self.iterations < 1 or self.together < 1:
            raise BadInput(
                "a genetic search needs a population of 2, one iteration and groups of one layer, "
                "at least"
            )

    def unsupported(self, net: Network, scheme: Scheme) -> str | None:
        """Whatever the rounding method does not support, at the bits to choose from."""
        return no_such_bits(scheme, self.bits, ()) or self.rounder().unsupported(net, scheme)

    def rounder(self) -> Method:
        """What calibrates all layers at one number of bits."""
        steps = {"iterations": self.steps, "act_iterations": min(self.steps, ACT_STEPS)}
        how = ("brecq", {**steps, "lr": self.lr})
        found: Method = make(*how) if self.rounding == "reconstructed" else make("nearest")
        return found

    def apply(self, job: Job) -> Job:
        """Sensitivity table, cost table, search (algorithm 2)."""
        finished = FinishedSteps(job, self)
        done = finished.load("bits")
        # measured latencies, and with them the choice, would be others the next time
        if done is None:
            done = {name: torch.tensor(b) for name, b in self.choice(job).items()}
            finished.save("bits", done)
        overrides = tuple(
            Override(i.name, int(done[i.name])) for i in job.net.layers if i.name in done
        )
        return replace(job, scheme=replace(job.scheme, overrides=overrides), quantized=None)

    def choice(self, job: Job) -> dict[str, int]:
        """Bits of every layer that is free."""
        bits = tuple(sorted(set(self.bits)))
        fixed = job.net.edges if job.scheme.first_last_bits else frozenset[str]()
        groups = self.groups(job, fixed)
        names = [name for group in groups for name in group]
        if not names:
            raise Unsupported(
                f"{job.net.name}: every layer has its bits fixed, there is nothing to choose"
            )
        H = self.costs(job, bits)
        L = self.sensitivities(job, groups, bits)
        numbers = {name: i for i, name in enumerate(names)}
        table = np.array([[H[name, b] for b in bits] for name in names])
        problem = Problem(table, tuple(tuple(numbers[n] for n in group) for group in groups), L)
        rest = sum(H[name, job.scheme.first_last_bits or 0] for name in fixed)
        delta = self.delta(problem, rest, bits)
        c = self.searched(job, problem, delta)
        job.log.numbers |= {
            "mixed/limit": self.shown(delta + rest),
            "mixed/cost": self.shown(float(problem.cost(c)) + rest),
            **{f"mixed/bits/{name}": float(bits[i]) for name, i in zip(names, c, strict=True)},
        }
        return {name: bits[i] for name, i in zip(names, c, strict=True)}

    def groups(self, job: Job, fixed: frozenset[str]) -> Groups:
        """Layers that share a block, at most ``together`` of them.

        Layers with fixed bits are left out.
        """
        parts = units(Quantized(job.net, job.scheme), "block")
        free = [[name for name in unit.layers if name not in fixed] for unit in parts]
        n = self.together
        return tuple(tuple(layers[i : i + n]) for layers in free for i in range(0, len(layers), n))

    def sensitivities(
        self, job: Job, groups: Groups, bits: Sequence[int]
    ) -> tuple[np.ndarray, ...]:
        """L of every combination of bits in every group.

        The rest of the network is at the most bits.
        """
        at = {b: self.calibrated(job, b) for b in bits}
        with torch.no_grad():
            return self.swapped(job, groups, bits, at)

    def swapped(
        self, job: Job, groups: Groups, bits: Sequence[int], at: Mapping[int, Quantized]
    ) -> tuple[np.ndarray, ...]:
        """L by swapping layers of the networks at fewer bits into that at the most."""
        rest, fewest, away = at[bits[-1]], bits[0], distance(self.measure)
        data = list(batches(tuple(t[: self.examples] for t in job.calib), 64))
        targets = [job.net.model(*batch) for batch in data]

        def loss(layers: Sequence[str], b: int) -> float:
            with ExitStack() as stack:
                for name in layers:
                    stack.enter_context(swapped(rest, at[b], name))
                return mean_distance(away, rest.model, data, targets)

        base, found = loss((), fewest), []
        for i, group in enumerate(groups):
            job.progress(i, len(groups), f"sensitivity of {', '.join(group)}")
            alone = {
                (n, b): 0.0 if b == bits[-1] else loss((n,), b) - base for n in group for b in bits
            }
            sets = chain.from_iterable(combinations(group, k) for k in range(2, len(group) + 1))
            beyond = {s: loss(s, fewest) - base - sum(alone[n, fewest] for n in s) for s in sets}
            job.log.numbers |= {f"sensitivity/{n}/{b}": value for (n, b), value in alone.items()}
            job.log.numbers |= {f"sensitivity/{'+'.join(s)}": value for s, value in beyond.items()}
            found.append(combined(group, bits, alone, beyond))
        return tuple(found)

    def calibrated(self, job: Job, b: int) -> Quantized:
        """All layers at the same bits."""
        scheme = replace(job.scheme, weights=replace(job.scheme.weights, bits=b), overrides=())
        return self.rounder().apply(replace(job, scheme=scheme, quantized=None)).need()

    def costs(self, job: Job, bits: Sequence[int]) -> Mapping[tuple[str, int], float]:
        """H of every layer: bits of memory or milliseconds."""
        every = {*bits, job.scheme.first_last_bits or bits[-1]}
        if self.gain == "size":
            return {(i.name, b): cost(i, (b, None), "size") for i in job.net.layers for b in every}
        acts = job.scheme.acts or TIMED_ACTS
        few = tuple(t[:64] for t in job.calib)  # ranges do not matter to the time
        timed = replace(job, scheme=replace(job.scheme, acts=acts), calib=few)
        tables: dict[Bits, dict[str, float]] = {
            (b, acts.bits): measured(timed, (b, acts.bits)) for b in sorted(every)
        }
        return {(name, b): ms for (b, _), table in tables.items() for name, ms in table.items()}

    def delta(self, problem: Problem, rest: float, bits: Sequence[int]) -> float:
        """The limit for the layers that are free; an error if nothing meets it.

        What the others need is ``rest``.
        """
        most = float(problem.costs[:, -1].sum()) + rest
        byte_or_ms = 8.0 if self.gain == "size" else 1.0  # costs of ``size`` are in bits
        unit = byte_or_ms if self.absolute else most
        limit = self.limit * unit - rest
        c = problem.cheapest
        if problem.cost(c) > limit:
            needed = float(problem.cost(c)) + rest
            what, word = ("bytes", "smallest") if self.gain == "size" else ("ms", "fastest")
            at = sorted({(b, sum(bits[i] == b for i in c)) for b in bits})
            raise BadInput(
                f"no choice of bits stays within {self.shown(limit + rest):.6g} {what}: the {word} "
                f"needs {self.shown(needed):.6g} ({self.limit:g} was asked for, that is "
                f"{needed / unit:.6g}), with "
                + ", ".join(f"{n} layers at {b} bits" for b, n in at if n)
            )
        return limit

    def shown(self, cost: float) -> float:
        """Bytes or milliseconds."""
        return cost / 8 if self.gain == "size" else cost

    def searched(self, job: Job, problem: Problem, delta: float) -> Genes:
        """Both searches, and how far the genetic one stays behind."""
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=job.rng)))
        sizes = {"population": self.population, "iterations": self.iterations}
        found, curve = genetic(problem, delta, rng, **sizes, mutation=self.mutation)
        best, proof = exact(problem, delta)
        a, b = float(problem.loss(found)), float(problem.loss(best))
        job.log.curves["mixed/genetic"] = curve
        job.log.numbers |= {
            "mixed/loss/genetic": a,
            "mixed/loss/exact": b,
            "mixed/gap": (a - b) / max(abs(b), 1e-12),
            "mixed/gap/highs": proof.gap,
        }
        return found if self.search == "genetic" else best


def combined(
    group: Sequence[str],
    bits: Sequence[int],
    alone: Mapping[tuple[str, int], float],
    beyond: Mapping[tuple[str, ...], float],
) -> np.ndarray:
    """Losses of all combinations of a group: diagonal and off-diagonal terms.

    The table has an axis of bits for each layer.
    """
    table = np.zeros((len(bits),) * len(group))
    for index in np.ndindex(*table.shape):
        low = tuple(n for n, i in zip(group, index, strict=True) if i == 0)
        diagonal = sum(alone[n, bits[i]] for n, i in zip(group, index, strict=True))
        table[index] = diagonal + (beyond[low] if len(low) > 1 else 0.0)
    return table
