"""Weights that are broken, of another network, or that bring code."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save

from quantbench.data import torch_file
from quantbench.models.catalog import spec
from quantbench.models.checkpoint import checkpoint
from quantbench.models.loading import from_tensors, pretrained, untrained
from tests.reliability.corpus.row import Bad, file

RESNET = "data/embedded/checkpoints/shapes_resnet8.safetensors"

OVERLAP = (("a", (0, 8)), ("b", (4, 12)))


class Owner:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch owned",)


def whole() -> dict[str, torch.Tensor]:
    """Weights that fit the network of 8 layers."""
    return dict(untrained(spec("shapes/resnet8"), torch.Generator().manual_seed(0)).state_dict())


def _tensors(wrong: str, change: Callable[[dict[str, torch.Tensor]], object], *says: str) -> Bad:
    """A file whose tensors are not those of the network."""

    def make(folder: Path) -> None:
        tensors = whole()
        change(tensors)
        file("data/checkpoints/mine.safetensors", save(tensors))(folder)

    def load(_: Path) -> object:
        return from_tensors(spec("shapes/resnet8"), checkpoint("mine"))

    return Bad("checkpoints", wrong, make, load, ("shapes/resnet8", *says))


def _safetensors(wrong: str, content: Callable[[], bytes], *says: str) -> Bad:
    """A file that is none of safetensors."""

    def make(folder: Path) -> None:
        file("data/checkpoints/mine.safetensors", content())(folder)

    return Bad(
        "checkpoints", wrong, make, lambda _: checkpoint("mine"), ("mine.safetensors", *says)
    )


def _torch(wrong: str, content: Callable[[], bytes], *says: str) -> Bad:
    """A file of torch.save."""

    def make(folder: Path) -> None:
        file("mine.pth", content())(folder)

    return Bad(
        "checkpoints", wrong, make, lambda f: torch_file.read(f / "mine.pth"), ("mine.pth", *says)
    )


def saved(value: object, **how: bool) -> bytes:
    """A file of torch.save."""
    buffer = io.BytesIO()
    torch.save(value, buffer, **how)
    return buffer.getvalue()


def _zip_of_code() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("archive/data.pkl", pickle.dumps(Owner()))
        made.writestr("archive/version", "3")
    return buffer.getvalue()


def _overlapping() -> bytes:
    parts = {name: {"dtype": "F32", "shape": [2], "data_offsets": at} for name, at in OVERLAP}
    head = json.dumps(parts).encode()
    return len(head).to_bytes(8, "little") + head + bytes(12)


def _first(tensors: dict[str, torch.Tensor]) -> str:
    return next(name for name, t in tensors.items() if t.dim() == 4)


SWEEP = (
    *("sweep", "--methods", "nearest", "--cells", "w4", "--networks", "shapes/resnet8"),
    *("--dry-run", "--runs", "runs"),
)

NOT = "not a safetensors file"

ROWS = (
    Bad(
        "checkpoints",
        "an embedded one truncated",
        file(RESNET, b"\x10\0\0\0"),
        SWEEP,
        ("shapes_resnet8.safetensors", "truncated or changed"),
    ),
    Bad(
        "checkpoints",
        "a network that is not there",
        lambda _: None,
        lambda _: pretrained("shapes/resnet9"),
        ("did you mean", "shapes/resnet8"),
    ),
    _tensors("a tensor is missing", lambda t: t.pop(_first(t)), "lacks 1 tensors"),
    _tensors(
        "a tensor too many", lambda t: t.update(extra=torch.ones(1)), "unknown 1 tensors extra"
    ),
    _tensors(
        "another shape", lambda t: t.update({_first(t): torch.ones(2, 2)}), "has shape (2, 2)"
    ),
    _tensors("NaN", lambda t: t[_first(t)].fill_(torch.nan), "NaN or infinite"),
    _tensors("another network", lambda t: (t.clear(), t.update(a=torch.ones(1))), "lacks"),
    _safetensors("empty", lambda: b"", NOT),
    _safetensors("truncated", lambda: save(whole())[:-1], NOT),
    _safetensors("a header longer than the file", lambda: b"\xff" * 8 + b"{}", NOT),
    _safetensors("a header that is no JSON", lambda: b"\x04" + bytes(7) + b"{{{{", NOT),
    _safetensors("tensors that overlap", _overlapping, NOT),
    _safetensors("a pickle by that name", lambda: pickle.dumps(Owner()), NOT),
    _torch(
        "a pickle with code",
        lambda: pickle.dumps(Owner()),
        "would run code",
        "nothing was executed",
    ),
    _torch("an archive with code", _zip_of_code, "would run code", "nothing was executed"),
    _torch("a module of torch", lambda: saved(torch.nn.Linear(2, 2)), "would run code"),
    _torch("half an archive", lambda: saved({"a": torch.ones(99)})[:600], "not a whole checkpoint"),
    _torch("nothing at all", lambda: b"", "not a whole checkpoint"),
    _torch("text", lambda: b"<html>not found</html>", "mine.pth"),
)
