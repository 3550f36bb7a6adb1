"""A user's networks side by side: accuracy before and after, integers beside floats in time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quantbench.comparison.table import Comparison, Row
from quantbench.errors import BadInput, Unsupported
from quantbench.integer.backends.base import Compiled, backend
from quantbench.integer.ir import Conv, Program
from quantbench.integer.lowering.lower import executable, lower
from quantbench.integer.qdq.read import read
from quantbench.integer.simulate import Simulation
from quantbench.integer.store import size
from quantbench.latency.interleaved import float32_torch, interleaved
from quantbench.network.network import Network
from quantbench.quantization.quantized import Quantized
from quantbench.system.progress import Progress, silent

Candidate = Quantized | Program | str | Path

BACKEND = "native"


@dataclass(frozen=True, eq=False)
class _Entry:
    """What is measured of one candidate."""

    name: str
    bits: str
    run: Callable[[Tensor], Tensor]
    size: int
    program: Program | None
    note: str = ""


def compare(
    net: Network,
    *candidates: Candidate,
    data: Iterable[Any],
    limit: int | None = None,
    seconds: float = 1.0,
    progress: Progress = silent,
) -> Comparison:
    """Measure top-1 accuracy and time of a network and of what was made of it.

    Args:
        net: full precision.
        candidates: quantized networks, integer programs, or quantized ONNX files of any tool.
        data: batches ``(images, labels)``: a DataLoader, or a list of such pairs.
        limit: the most examples to take.
        seconds: time for the latencies of one image, on one thread; 0 for none.
        progress: called with (done, total, label).

    Raises:
        BadInput: no example, or a batch that is no pair.
        Unsupported: a candidate that has no form that runs.

    """
    base = _Entry(net.name, "float32", net.model, _floats(net), None)
    entries = [base, *(_entry(c) for c in candidates)]
    scores: list[list[np.ndarray]] = [[] for _ in entries]
    first: Tensor | None = None
    done, total = 0, limit or _length(data)
    with torch.inference_mode():
        for images, labels in _batches(data, limit):
            first = images[:1] if first is None else first
            for entry, kept in zip(entries, scores, strict=True):
                kept.append((entry.run(images.to(net.device)).argmax(1).cpu() == labels).numpy())
            done += len(images)
            progress(done, max(total, done), "comparing")
    if first is None:
        raise BadInput("the data are empty: give at least one batch (images, labels)")
    times = _times(net, entries, first, seconds) if seconds else {}
    rows = tuple(
        Row(e.name, e.bits, np.concatenate(s), e.size, times.get(i), e.note)
        for i, (e, s) in enumerate(zip(entries, scores, strict=True))
    )
    ours = next((i + 1 for i, c in enumerate(candidates) if isinstance(c, Quantized)), 0)
    title = f"{net.name}, {done} examples"
    return Comparison(title, "top-1", rows, ours if len(candidates) > 1 else 0)


def _entry(candidate: Candidate) -> _Entry:
    if isinstance(candidate, Quantized):
        program, note = None, ""
        if candidate.scheme.placement == "integer":
            program = lower(candidate)
        else:
            note = "simulated in floats"
        run = executable(candidate)
        bits = str(candidate.scheme)
        return _Entry(f"{candidate.net.name} {bits}", bits, run, candidate.bytes, program, note)
    if isinstance(candidate, Program):
        return _program("program", candidate)
    found = read(candidate)
    return _program(found.path.name, found.program)


def _program(name: str, program: Program) -> _Entry:
    bits = max((op.weight_bits for op in program.ops if isinstance(op, Conv)), default=8)
    try:
        stored = size(program)
    except Unsupported:  # islands are no data
        stored = 0
    return _Entry(name, f"w{bits}a8", Simulation(program), stored, program)


def _floats(net: Network) -> int:
    return sum(p.numel() * p.element_size() for p in net.model.parameters())


def _length(data: Iterable[Any]) -> int:
    """Examples of a loader, where it says how many it has."""
    whole = getattr(data, "dataset", None)
    return len(whole) if whole is not None and hasattr(whole, "__len__") else 0


def _batches(data: Iterable[Any], limit: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of tensors, up to a limit of examples.

    Raises:
        BadInput: a batch that is no pair of images and labels.

    """
    left = limit
    for batch in data:
        pair = batch if isinstance(batch, tuple | list) else ()
        if len(pair) != 2 or len(pair[0]) != len(pair[1]):
            raise BadInput(
                f"a batch is {type(batch).__name__}: comparing takes pairs (images, labels) of the "
                "same length, as a DataLoader gives them"
            )
        images, labels = (torch.as_tensor(part)[:left] for part in pair)
        yield images, labels
        left = None if left is None else left - len(images)
        if left == 0:
            return


def _times(net: Network, entries: list[_Entry], image: Tensor, seconds: float) -> dict[int, float]:
    """Median milliseconds of one image by row; integers on the native kernels, by turns."""
    runner = backend(BACKEND)
    if runner.available() is not None or net.device.type != "cpu":
        return {}
    compiled: dict[int, Compiled] = {}
    for i, entry in enumerate(entries):
        if entry.program is not None:
            try:
                compiled[i] = runner.compile(entry.program)
            except Unsupported:
                continue
    runners: dict[str, Callable[[Any], object]] = {"0": float32_torch(net.model)(1)}
    runners |= {str(i): run for i, run in compiled.items()}
    taken = interleaved(runners, image.numpy(), seconds=seconds)
    return {int(name): 1e3 * float(np.median(times)) for name, times in taken.items()}
