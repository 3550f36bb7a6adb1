"""How far a program that was read lies from ONNX Runtime on the file itself, code by code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from quantbench.integer.qdq.graph import SHIFT
from quantbench.integer.qdq.read import Foreign
from quantbench.integer.simulate import Simulation
from quantbench.network.onnx_files.runtime import run, session

Array = NDArray[Any]


@dataclass(frozen=True)
class Agreement:
    """Codes of all tensors that both have, on some images.

    Attributes:
        codes: how many were compared.
        differ: how many are not equal.
        largest: largest difference, in steps.
        worst: tensor with the largest share that differs.
        logits: relative distance of the outputs.
        answers: share of the images with the same largest output.

    """

    codes: int
    differ: int
    largest: int
    worst: str
    logits: float
    answers: float

    @property
    def share(self) -> float:
        """Part of the codes that differ."""
        return self.differ / max(self.codes, 1)

    def __str__(self) -> str:
        """One line."""
        return (
            f"{self.share:.4%} of {self.codes:,} codes differ, by {self.largest} at most; outputs "
            f"by {self.logits:.2%}; {self.answers:.2%} of the answers are the same"
        )


def agreement(
    foreign: Foreign, images: Array, *, precise: bool = True, optimize: bool = True
) -> Agreement:
    """Compare on images.

    Args:
        foreign: what was read.
        images: float32 (N, C, H, W).
        precise: ONNX Runtime's mode in which products do not saturate; see
            ``network.onnx_files.runtime``.
        optimize: its integer kernels; otherwise every node is computed as it is written, in floats.

    Raises:
        BadInput: ONNX Runtime refuses the file, or fails.

    """
    ours = Simulation(foreign.program).codes(torch.from_numpy(images))
    theirs, logits = _shown(foreign, images, precise=precise, optimize=optimize)
    total = differ = largest = 0
    shares: dict[str, float] = {}
    for name, codes in theirs.items():
        mine = ours[foreign.tensors[name]].numpy().reshape(codes.shape).astype(np.int64)
        off = np.abs(mine - codes.astype(np.int64) - SHIFT[codes.dtype.name])
        total, differ = total + off.size, differ + int((off != 0).sum())
        largest = max(largest, int(off.max(initial=0)))
        shares[name] = float((off != 0).mean()) if off.size else 0.0
    own = ours[foreign.program.output].numpy().reshape(len(images), -1).astype(np.float64)
    other = logits.reshape(len(images), -1).astype(np.float64)
    away = float(np.linalg.norm(own - other)) / max(float(np.linalg.norm(other)), 1e-30)
    same = float((own.argmax(1) == other.argmax(1)).mean())
    worst = max(shares, key=lambda n: shares[n], default="")
    return Agreement(total, differ, largest, worst, away, same)


def _shown(
    foreign: Foreign, images: Array, *, precise: bool, optimize: bool
) -> tuple[Mapping[str, Array], Array]:
    """Codes by name, and outputs, of a session that shows them."""
    shown = onnx.ModelProto()
    shown.CopyFrom(foreign.model)
    made = {name for node in shown.graph.node for name in node.output}
    names = [n for n in foreign.tensors if n in made]
    shown.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names)
    opened = session(shown, precise=precise, optimize=optimize)
    fixed = opened.get_inputs()[0].shape[0]
    step = fixed if isinstance(fixed, int) else len(images)
    parts = [run(opened, images[i : i + step]) for i in range(0, len(images), step)]
    found = [np.concatenate(column) for column in zip(*parts, strict=True)]
    codes = dict(zip(names, found[1:], strict=True))
    return {n: c for n, c in codes.items() if c.dtype.name in SHIFT}, found[0]
