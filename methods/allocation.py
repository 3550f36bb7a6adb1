"""Bit allocation by integer programming (Hubara et al., ICML 2021, section 3.2, eq. 5a to 5d).

arXiv 2006.10518. Every layer is calibrated at every choice of bits. Delta L_l of a choice is the
loss of the network with layer l at that choice and all others at 8 bits, less the loss with all at
8; Delta P_l what the choice saves. The integer program picks one choice per layer, and the network
is put together from the layers calibrated at theirs, or calibrated anew at the bits chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import ClassVar

import torch
from torch import Tensor

from quantbench import BadInput, Job, Method, Network, Paper, Quantized, Scheme
from quantbench.latency.layers import measured
from quantbench.network.hooks import batches
from quantbench.optimization.distance import KINDS, LABELLED, distance, mean_distance
from quantbench.optimization.mixed_bits import (
    Bits,
    copy_layer,
    cost,
    no_such_bits,
    swapped,
    uniform,
)
from quantbench.quantization import papers
from quantbench.quantization.registry import make
from quantbench.search.bit_allocation import Allocation, Choice, Options, front, max_gain, min_loss
from quantbench.system.tensors import Inputs
from quantbench.tasks.images import labelled

SMALLEST = 1e-6  # released code: no choice but 8 bits is free of loss

BATCH = 64  # examples at a time while losses are measured

LOGGED = ("loss", "cost", "gain", "gap", "bound")  # of an allocation, and of every one on the front


@dataclass(frozen=True)
class Allocate(Method):
    """Choose bits layer by layer, and build the mixed-precision network.

    Attributes:
        rounding: how layers are calibrated at each choice of bits. What learns layers behind their
            quantized predecessors learns them behind others than they end up with.
        anew: calibrates the whole network at the bits chosen; ``None`` keeps the layers that were
            measured.
        weights: weight bits to choose from.
        acts: activation bits to choose from; empty for the weights' own, as in the paper. Under
            integer placement only weight bits are chosen; what attention multiplies keeps the
            scheme's bits.
        size: limit on the cost, as a fraction of that of full precision: 32-bit weights, 32 by 32
            bit operations; for the latency, as a fraction of that at 8 bits.
        gain: ``size``, ``bops`` (bit operations) or ``latency`` (measured on the integer kernels of
            this machine, so that the allocation may differ from run to run).
        measure: loss that decides: between the network's outputs before and after ``kl``, ``mse``
            or ``accuracy``, which need no labels and are ours; or ``cross_entropy`` with the labels
            of ``labelled`` (released code).
        labelled: image set with labels that ``cross_entropy`` is measured on. ``examples`` of it
            are drawn, class-balanced and by themselves; the released code takes all 1,000
            calibration images.
        form: ``min_loss`` within the size (released code), or ``max_gain`` within ``loss_limit``
            (paper).
        loss_limit: for ``max_gain``, in the unit of ``measure``.
        examples: how many losses are measured on, the first ones of the calibration set (released
            code: all).
        points: sizes at which the Pareto front is logged; 0 for none.

    """

    name: ClassVar[str] = "allocate"
    paper: ClassVar[Paper] = papers.ADAQUANT
    rounding: Method = field(default_factory=partial(make, "nearest"))
    anew: Method | None = None
    weights: tuple[int, ...] = (4, 8)
    acts: tuple[int, ...] = ()
    size: float = 0.125
    gain: str = "size"
    measure: str = "kl"
    labelled: str = ""
    form: str = "min_loss"
    loss_limit: float = 0.01
    examples: int = 256
    points: int = 12

    def __post_init__(self) -> None:
        """Reject unknown words."""
        for what, value, known in (
            ("gain", self.gain, ("size", "bops", "latency")),
            ("measure", self.measure, (*KINDS, *LABELLED)),
            ("form", self.form, ("min_loss", "max_gain")),
        ):
            if value not in known:
                raise BadInput(f"{what} {value!r}: choose {', '.join(known)}")
        if (self.measure in LABELLED) != bool(self.labelled):
            raise BadInput(
                f"measure {self.measure!r} with labelled = {self.labelled!r}: cross_entropy, and "
                "nothing else, needs the name of an image set with labels, such as cifar10/train"
            )
        if self.examples < 1:
            raise BadInput("losses are measured on at least one example")
        if not self.weights:
            raise BadInput(
                "bit allocation needs weight bits to choose from, such as weights = [4, 8]"
            )

    def unsupported(self, net: Network, scheme: Scheme) -> str | None:
        """Whatever the rounding method does not support, at the bits that are compared."""
        bits = self.choices(scheme)
        acts = {a for _, a in bits if a is not None}
        why = no_such_bits(scheme, {8, *(w for w, _ in bits)}, acts | ({8} if acts else set()))
        return why or self.rounding.unsupported(net, scheme)

    def apply(self, job: Job) -> Job:
        """Calibrate, measure, solve, put together or calibrate anew."""
        choices = self.choices(job.scheme)
        eight: Bits = (8, None if choices[0][1] is None else 8)
        at = {bits: self.calibrated(job, bits) for bits in dict.fromkeys((*choices, eight))}
        options = self.options(job, at, choices, eight)
        found = self.solve(job.net, options)
        self.record(job, found)
        if self.points:
            pareto = front(options, points=self.points)
            job.log.curves |= {f"front/{k}": [float(getattr(a, k)) for a in pareto] for k in LOGGED}
        scheme = replace(job.scheme, overrides=found.overrides)
        if self.anew is not None:
            return self.anew.apply(replace(job, scheme=scheme, quantized=None))
        mixed = Quantized(job.net, scheme)
        for name, c in found.choices.items():
            copy_layer(at[c.weights, c.acts], mixed, name)
        mixed.calibrate_acts(job.calib, only_new=True)
        return replace(job, scheme=scheme, quantized=mixed)

    @staticmethod
    def record(job: Job, found: Allocation) -> None:
        """Put an allocation into the log."""
        sure = f"gap {found.gap:.3g}, bound {found.bound:.6g}"
        job.progress(1, 1, f"allocation {found.status}, {sure}")
        numbers = job.log.numbers
        numbers |= {f"allocation/{k}": float(getattr(found, k)) for k in LOGGED}
        numbers["allocation/optimal"] = float(found.status == "Optimal")
        chosen = found.choices.items()
        numbers |= {f"allocation/bits/{name}": float(c.weights) for name, c in chosen}
        numbers |= {f"allocation/acts/{name}": float(c.acts) for name, c in chosen if c.acts}

    def choices(self, scheme: Scheme) -> list[Bits]:
        """(weight, activation) bits that every layer may have."""
        if scheme.acts is None or scheme.placement == "integer":
            return [(w, None) for w in self.weights]
        if self.acts:
            return list(product(self.weights, self.acts))
        return [(w, w) for w in self.weights]

    def calibrated(self, job: Job, bits: Bits) -> Quantized:
        """All layers at one choice of bits."""
        alike = replace(job, scheme=uniform(job.scheme, bits), quantized=None)
        return self.rounding.apply(alike).need()

    @torch.no_grad()
    def options(
        self, job: Job, at: Mapping[Bits, Quantized], choices: list[Bits], eight: Bits
    ) -> Options:
        """Delta L and cost of every choice of every layer."""
        data, targets = self.examined(job)
        rest, away = at[eight], distance(self.measure)

        def loss() -> float:
            return mean_distance(away, rest.model, data, targets)

        costs = self.costs(job, choices)
        base = loss()
        options: dict[str, list[Choice]] = {}
        for i, info in enumerate(rest.infos):
            job.progress(i, len(rest.infos), f"sensitivity of {info.name}")
            options[info.name] = row = []
            for bits in choices:
                delta = 0.0  # of 8 bits, by definition
                if bits != eight:
                    with swapped(rest, at[bits], info.name):
                        delta = max(loss() - base, SMALLEST)
                row.append(Choice(bits[0], bits[1], delta, costs[info.name, bits]))
        return options

    def examined(self, job: Job) -> tuple[list[Inputs], list[Tensor]]:
        """Batches of examples that losses are measured on, and what should come out."""
        if not self.labelled:
            data = list(batches(tuple(t[: self.examples] for t in job.calib), BATCH))
            return data, [job.net.model(*batch) for batch in data]
        found = labelled(job.net.name, self.labelled, self.examples)
        x, y = found.preprocess(found.x), torch.from_numpy(found.y).long()
        data = list(batches((x.to(job.net.device),), BATCH))
        return data, list(y.to(job.net.device).split(BATCH))  # type: ignore[no-untyped-call]

    def costs(self, job: Job, choices: list[Bits]) -> dict[tuple[str, Bits], float]:
        """Bits of memory, bit operations or milliseconds of every layer at every choice."""
        if self.gain == "latency":
            return {(n, bits): ms for bits in choices for n, ms in measured(job, bits).items()}
        infos = Quantized(job.net, job.scheme).infos
        return {(i.name, bits): cost(i, bits, self.gain) for i in infos for bits in choices}

    def solve(self, net: Network, options: Options) -> Allocation:
        """The integer program in the form asked for."""
        if self.form == "max_gain":
            return max_gain(options, self.loss_limit)
        if self.gain == "latency":
            whole = sum(max(c.cost for c in row) for row in options.values())
        else:
            whole = sum(cost(net.layer(n), (32, 32), self.gain) for n in options)
        return min_loss(options, self.size * whole)
