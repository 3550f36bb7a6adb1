"""What runs a target's network: our kernels, and every other runtime in the modes that it has.

On a processor without an instruction that adds products to an int32, the others' fastest kernels
add two products in int16, which saturates. What each offers against that is timed and counted
beside its default:

- ONNX Runtime has kernels that cannot saturate, behind ``session.x64quantprecision``; its quantizer
  can also leave weights 7 bits (``reduce_range``).
- OpenVINO and oneDNN have no such mode. Their documents advise 7 bits for weights, which OpenVINO's
  quantizer does when told (``OverflowFix``): a pair of products is then at most 32,130.
- LiteRT needs none: its kernels multiply in 16 bits.

A network with 7-bit weights is another network, whose accuracy is its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from quantbench.errors import BadInput, Unsupported
from quantbench.integer.backends.base import Array, Backend, Difference, backend, differences
from quantbench.integer.backends.intmm import IntMM
from quantbench.integer.backends.native import Native
from quantbench.integer.backends.onnxruntime import OnnxRuntime
from quantbench.integer.ir import Program
from quantbench.latency.table import EXACT, PEERS

SEVEN = "w7a8"

ON_SEVEN = ("onnxruntime", "openvino", "onednn")  # who is timed on 7-bit weights too


@dataclass
class Runs:
    """What is timed.

    Attributes:
        programs: backends with their programs, by row.
        away: largest difference of any code from the definition, and share of codes that differ.

    """

    programs: dict[str, tuple[Backend, Program]] = field(default_factory=dict)
    away: dict[str, tuple[float, float]] = field(default_factory=dict)


def all_runs(
    programs: Mapping[str, Program],
    seven: Program | None,
    images: Array,
    threads: tuple[int, ...],
    say: Callable[[str], None],
) -> Runs:
    """Our backends with every program, and the others that are installed with ``w8a8``.

    Args:
        programs: by scheme, ``w8a8`` among them.
        seven: the network with 7-bit weights, if it is to be timed.
        images: float32 images on which codes are compared.
        threads: numbers of threads on which ours must be exact.
        say: told which runtimes are left out, and why.

    Raises:
        BadInput: one of ours that differs from the definition.

    """
    runs = Runs()
    narrow = {} if seven is None else {SEVEN: seven}
    _ours(runs, {**programs, **narrow}, images, threads, say)
    modes: list[tuple[str, Backend, Program]] = [
        (f"{name} w8a8", backend(name), programs["w8a8"]) for name in PEERS
    ]
    if "onnxruntime" in PEERS:
        modes.append((f"onnxruntime w8a8{EXACT}", OnnxRuntime(exact=True), programs["w8a8"]))
    if seven is not None:
        modes += [(f"{n} {SEVEN}", backend(n), seven) for n in ON_SEVEN if n in PEERS]
    for row, runtime, program in modes:
        why = runtime.available()
        try:
            if not why:
                runs.away[row] = away(runtime, program, images)
                runs.programs[row] = (runtime, program)
        except Unsupported as e:
            why = str(e)
        if why:
            say(f"without {row}: {why}")
    return runs


def _ours(
    runs: Runs,
    programs: Mapping[str, Program],
    images: Array,
    threads: tuple[int, ...],
    say: Callable[[str], None],
) -> None:
    """Add what has to be exact; raise BadInput where it is not."""
    native, products = Native(), IntMM()
    runs.programs |= {f"native {s}": (native, p) for s, p in programs.items()}
    if why := _no_accelerator(products):
        say(f"without intmm: {why}")
    else:
        runs.programs |= {f"intmm {s}": (products, p) for s, p in programs.items()}
    for count, (name, (ours, p)) in itertools.product(threads, runs.programs.items()):
        runs.away[name] = away(ours, p, images, count)
        if runs.away[name][0]:
            raise BadInput(f"{name} differs from the definition on {count} threads")


def _no_accelerator(runs: IntMM) -> str | None:
    """Why matrix products are not worth timing here.

    On a processor they show that they are exact, no more.
    """
    if why := runs.available():
        return why
    return "torch finds no CUDA device here" if runs.device.type == "cpu" else None


def away(runs: Backend, program: Program, images: Array, threads: int = 1) -> tuple[float, float]:
    """Largest difference of any code on one image, and the share of all codes that differ."""
    compiled = runs.compile(program, threads=threads)
    found: Mapping[str, Difference] = differences(compiled, program, images[:1])
    coded = {k: d for k, d in found.items() if program.formats[k] is not None or d.largest == 0}
    elements = {k: int(np.prod(program.shapes[k])) for k in coded}
    off = sum(d.share * elements[k] for k, d in coded.items())
    largest = max((d.largest for d in coded.values()), default=0.0)
    return largest, off / max(1, sum(elements.values()))
