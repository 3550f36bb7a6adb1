"""Saved quantized networks: damaged, or of another network or scheme."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import quantbench as qb
from tests.helpers.saved import SCHEME, network
from tests.reliability.corpus.programs import SAVED
from tests.reliability.corpus.row import Bad

Change = Callable[[Path], object]


def load(folder: Path, scheme: qb.Scheme = SCHEME) -> qb.Quantized:
    """What is in the folder, for the network beside it."""
    net, _ = network(folder / "saved")
    return qb.load(folder / "saved", net, scheme)


def _folder(wrong: str, change: Change, *says: str, scheme: qb.Scheme = SCHEME) -> Bad:
    def make(folder: Path) -> None:
        shutil.copytree(SAVED, folder / "saved")
        change(folder / "saved")

    return Bad("quantized", wrong, make, lambda f: load(f, scheme), ("saved: ", *says))


def _about(wrong: str, change: Callable[[dict[str, Any]], object], *says: str) -> Bad:
    """Another quantized.json."""

    def write(folder: Path) -> None:
        path = folder / "quantized.json"
        about = json.loads(path.read_text())
        change(about)
        path.write_text(json.dumps(about))

    return _folder(wrong, write, *says)


def _text(wrong: str, text: str, *says: str) -> Bad:
    return _folder(wrong, lambda f: (f / "quantized.json").write_text(text), *says)


def _tensors(wrong: str, change: Callable[[dict[str, torch.Tensor]], object], *says: str) -> Bad:
    """Other tensors."""

    def write(folder: Path) -> None:
        tensors = load_file(folder / "quantized.safetensors")
        change(tensors)
        save_file(tensors, folder / "quantized.safetensors")

    return _folder(wrong, write, *says)


def _cut(folder: Path) -> None:
    path = folder / "quantized.safetensors"
    path.write_bytes(path.read_bytes()[:-9])


def _other_network(folder: Path) -> None:
    held = load_file(folder / "network.safetensors")
    held["0.weight"] *= 2
    save_file(held, folder / "network.safetensors")


NOT = "not a saved quantized network"

ROWS = (
    _folder("no JSON beside it", lambda f: (f / "quantized.json").unlink(), NOT),
    _folder("no tensors beside it", lambda f: (f / "quantized.safetensors").unlink(), NOT),
    _folder("truncated tensors", _cut, NOT),
    _folder("another network", _other_network, "was saved for a network"),
    _folder(
        "another scheme",
        lambda _: None,
        "another scheme",
        scheme=replace(SCHEME, weights=qb.Grid(3)),
    ),
    _text("half a JSON", '{"format": 1', NOT),
    _text("a list", "[1, 2]", NOT, "list"),
    _text("lists without end", "[" * 100_000, NOT),
    _about("of a later format", lambda a: a.update(format=7), "format 7"),
    _about("a scheme that is a list", lambda a: a.update(scheme=[1]), NOT),
    _about("levels that are none", lambda a: a["levels"].clear(), NOT),
    _about(
        "levels that are numbers", lambda a: a.update(levels=dict.fromkeys(a["levels"], 3)), NOT
    ),
    _about("a level beyond 32 bits", lambda a: a["levels"]["0"].append(1 << 31), NOT, "too large"),
    _about("levels that fall", lambda a: a["levels"]["0"].reverse(), NOT, "do not ascend"),
    _about("no digest", lambda a: a.pop("digest"), NOT, "digest"),
    _about(
        "a network that is a number", lambda a: a.update(network_digest=3), "saved for a network"
    ),
    _tensors("a scale of zero", lambda t: t["0.scale"].zero_(), NOT, "not positive"),
    _tensors(
        "codes outside their levels", lambda t: t["0.codes"].fill_(99), NOT, "outside its levels"
    ),
    _tensors(
        "a bias of another length",
        lambda t: t.update({"0.bias": torch.ones(9)}),
        NOT,
        "another shape",
    ),
    _tensors("one code moved", lambda t: t["2.bias"].add_(0.5), "do not match their digest"),
)
