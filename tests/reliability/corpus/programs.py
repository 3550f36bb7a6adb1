"""Integer programs that are damaged, or that no executor may see."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from quantbench.integer import store
from tests.reliability.corpus.checkpoints import Owner
from tests.reliability.corpus.row import Bad, file

SAVED = Path(__file__).parents[2] / "quantization" / "saved" / "0.1.0"

Tensors = dict[str, np.ndarray]


def parts() -> tuple[Tensors, dict[str, Any]]:
    """Tensors and header of a whole program."""
    with safe_open(SAVED / "program.safetensors", framework="numpy") as f:
        tensors = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118 - no mapping
        return tensors, json.loads(f.metadata()["quantbench"])


def joined(tensors: Tensors, about: object) -> bytes:
    """The file again."""
    return save(tensors, {"quantbench": json.dumps(about)})


def _bytes(wrong: str, content: Callable[[], bytes], *says: str) -> Bad:
    def make(folder: Path) -> None:
        file("p.safetensors", content())(folder)

    return Bad("programs", wrong, make, lambda f: store.load(f / "p.safetensors"), says)


def _changed(wrong: str, change: Callable[[Tensors, dict[str, Any]], object], *says: str) -> Bad:
    def content() -> bytes:
        tensors, about = parts()
        change(tensors, about)
        return joined(tensors, about)

    return _bytes(wrong, content, *says)


def _raw() -> bytes:
    return (SAVED / "program.safetensors").read_bytes()


WHOLE = "p.safetensors: not a saved integer network"

ROWS = (
    Bad(
        "programs", "not there", lambda _: None, lambda f: store.load(f / "p.safetensors"), (WHOLE,)
    ),
    _bytes("empty", lambda: b"", WHOLE),
    _bytes("truncated", lambda: _raw()[:-5], WHOLE),
    _bytes("a pickle", lambda: pickle.dumps(Owner()), WHOLE),
    _bytes("without its header", lambda: save(parts()[0]), WHOLE),
    _bytes(
        "a header of lists without end",
        lambda: save(parts()[0], {"quantbench": "[" * 100_000}),
        WHOLE,
    ),
    _changed("of a later version", lambda _, a: a.update(version=9), WHOLE, "version 9"),
    _changed("a tensor is missing", lambda t, _: t.pop("0.bias"), WHOLE, "0.bias"),
    _changed(
        "an operator that is not there", lambda _, a: a["ops"][0].update(op="Exec"), WHOLE, "Exec"
    ),
    _changed(
        "a field that is not there", lambda _, a: a["ops"][0].update(run="x"), WHOLE, "other fields"
    ),
    _changed("no operators", lambda _, a: a.update(ops=[]), "no operators"),
    _changed(
        "a scale of zero", lambda _, a: a["input"].update(scale=0.0), "the network input: scale"
    ),
    _changed(
        "an input that nobody makes",
        lambda _, a: a["ops"][0].update(inputs=["x"]),
        "'x' is not made",
    ),
    _changed(
        "sums that leave int32",
        lambda t, _: t.update({"0.bias": np.full_like(t["0.bias"], 2**31 - 1)}),
        "leave int32",
    ),
    _changed(
        "weights of a terabyte",
        lambda _, a: a["ops"][0].update(shape=[1 << 20, 1 << 20, 1, 1]),
        WHOLE,
    ),
)
