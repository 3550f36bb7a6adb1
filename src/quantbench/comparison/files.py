"""Files of other tools on a task's own examples, beside our own method at the same bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from quantbench.comparison.table import Comparison, Row
from quantbench.errors import BadInput
from quantbench.integer.qdq.read import Foreign, read
from quantbench.integer.simulate import Simulation
from quantbench.integer.store import size
from quantbench.network.onnx_files.runtime import run, session
from quantbench.quantization.method import Method
from quantbench.quantization.scheme import Grid, Scheme
from quantbench.system.progress import Progress, silent
from quantbench.tasks.measure import full_precision, quantized

if TYPE_CHECKING:
    from quantbench.tasks.task import Task

METRICS = ("top1", "f1")  # means over examples, of scores in 0..1

IMAGES = 32  # on which codes are compared


def same_bits(foreign: Foreign) -> Scheme:
    """Our scheme with as many bits and scales as a file has."""
    return Scheme(
        Grid(foreign.weight_bits, per_channel=foreign.per_channel, range="minmax"),
        Grid(8, symmetric=False, range="minmax"),
        placement="integer",
    )


def beside_ours(
    files: Sequence[str | Path],
    task: Task,
    method: Method,
    calib: str,
    examples: int,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Comparison:
    """Score files on a task: as integer programs, and as ONNX Runtime runs them.

    Args:
        files: QDQ or QOperator files of the task's network.
        task: the network in full precision, and the examples.
        method: ours.
        calib: calibration set of our method.
        examples: how many of it.
        seed: of our method.
        progress: called with (done, total, label).

    Raises:
        BadInput: a task whose metric is no mean over examples, or a file for other images.

    """
    if task.metric not in METRICS:
        raise BadInput(f"{task.model} is measured by {task.metric}; files are compared by top-1")
    found = [read(f) for f in files]
    if not found:
        raise BadInput("no file to compare")
    (sample,) = task.calibration(calib, min(examples, IMAGES), seed)
    for f in found:
        if tuple(sample.shape[1:]) != f.program.shape:
            raise BadInput(
                f"{f.path}: takes images {f.program.shape}, {task.model} {tuple(sample.shape[1:])}"
            )
    scheme = same_bits(found[0])
    rows = [Row(task.model, "float32", full_precision(task, "cpu"))]
    q, scores, _ = quantized(task, method, scheme, calib, examples, seed, progress=progress)
    rows.append(Row(f"{method.name}, integers", str(scheme), scores, q.bytes))
    notes: list[str] = []
    for number, f in enumerate(found):
        progress(number, len(found), f"scoring {f.path.name}")
        rows += _rows(f, task)
        notes += _notes(f, sample)
    title = f"{task.model} on {task.eval_data}, {len(rows[0].scores)} examples"
    return Comparison(title, task.metric, tuple(rows), 1, tuple(notes))


def _rows(f: Foreign, task: Task) -> list[Row]:
    """The file on integers, and what ONNX Runtime makes of it in both of its modes."""
    bits, stored = f"w{f.weight_bits}a8", size(f.program)
    made = [Row(f"{f.path.name}, integers", bits, task.scores(Simulation(f.program)), stored)]
    for precise, mode in ((True, "exact mode"), (False, "default mode")):
        scores = task.scores(_runtime(f, precise=precise))
        made.append(Row(f"{f.path.name}, ONNX Runtime", bits, scores, stored, note=mode))
    return made


def _runtime(f: Foreign, *, precise: bool) -> Callable[[Tensor], Tensor]:
    opened = session(f.model, precise=precise)
    fixed = opened.get_inputs()[0].shape[0]

    def answer(images: Tensor) -> Tensor:
        x: Any = images.contiguous().numpy()
        step = fixed if isinstance(fixed, int) else len(x)
        parts = [torch.from_numpy(run(opened, x[i : i + step])[0]) for i in range(0, len(x), step)]
        return torch.cat(parts)

    return answer


def _notes(f: Foreign, sample: Tensor) -> list[str]:
    """Who wrote it, how far we are from ONNX Runtime, and what is rounded."""
    from quantbench.integer.qdq.agreement import agreement

    x = sample.contiguous().numpy()
    name = f.path.name
    exact, plain = (agreement(f, x, precise=p) for p in (True, False))
    return [
        f"{name}: written by {f.producer}",
        f"{name}, against ONNX Runtime's exact mode: {exact}",
        f"{name}, against its default mode: {plain}",
        *(f"{name}: {note}" for note in f.notes),
    ]
