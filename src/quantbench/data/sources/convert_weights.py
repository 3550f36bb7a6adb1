"""From published checkpoints to plain safetensors; nothing in them is ever executed."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from quantbench.errors import DataCorrupt


class Get(Protocol):
    """Brings files here, from the repository of the entry that is being built."""

    def __call__(self, *paths: str) -> list[Path]:
        """Download paths of the repository."""

    def other(self, name: str) -> Path:
        """Bring another entry of the table."""


def torch_pickle(get: Get, out: Path, source: str) -> None:
    """``torch.save`` files, read with ``weights_only``: the state dict, without ``module.``.

    Raises:
        DataCorrupt: the file is broken, or asks for anything but tensors and plain values.

    """
    (path,) = get(source)
    try:
        saved: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        raise DataCorrupt(
            f"{path.name} would run code when loaded; refused, nothing was executed: {e}"
        ) from e
    except (RuntimeError, EOFError, OSError, KeyError, ValueError) as e:
        raise DataCorrupt(f"{path.name} is not a whole checkpoint: {e}") from e
    tensors = saved.get("state_dict", saved) if isinstance(saved, Mapping) else None
    if not tensors or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise DataCorrupt(f"{path.name} holds no state dict of tensors")
    save_file(
        {k.removeprefix("module."): t.detach().clone().contiguous() for k, t in tensors.items()},
        out,
    )


def caffejs(get: Get, out: Path, source: str) -> None:
    """BVLC GoogLeNet from caffejs: a raw float32 file a tensor, filters (out, h, w, in)."""
    parts = {
        "b1": "1x1",
        "b3r": "3x3_reduce",
        "b3": "3x3",
        "b5r": "5x5_reduce",
        "b5": "5x5",
        "pp": "pool_proj",
    }
    stems = {
        "conv1": "conv1/7x7_s2",
        "conv2r": "conv2/3x3_reduce",
        "conv2": "conv2/3x3",
        "fc": "loss3/classifier",
    }
    for block in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        stems |= {
            f"i{block}.{ours}": f"inception_{block}/{theirs}" for ours, theirs in parts.items()
        }
    sides = {"conv1": 7, "conv2": 3, "b3": 3, "b5": 5}  # all others are 1x1
    files = get(
        *(f"{source}/{stem}_{kind}.bin" for stem in stems.values() for kind in ("filter", "bias"))
    )
    tensors: dict[str, Tensor] = {}
    for key, weight, bias in zip(stems, files[::2], files[1::2], strict=True):
        b, w = (_floats(p) for p in (bias, weight))
        side = sides.get(key.rpartition(".")[2], 1)
        try:
            filters = w.reshape(len(b), side, side, -1).transpose(0, 3, 1, 2)
        except ValueError as e:
            raise DataCorrupt(
                f"{weight.name} has {w.size} values, which are no {len(b)} filters of {side}x{side}"
            ) from e
        tensors[f"{key}.weight"] = _tensor(filters[..., 0, 0] if key == "fc" else filters)
        tensors[f"{key}.bias"] = _tensor(b)
    save_file(tensors, out)


def tfjs(get: Get, out: Path, source: str) -> None:
    """Keras MobileNetV1 from TensorFlow.js: a manifest and one raw file a group of weights."""
    (model,) = get(f"{source}/mobilenet_model.json")
    try:
        groups = json.loads(model.read_text(encoding="utf-8"))["weightsManifest"]
        files = get(*(f"{source}/{path}" for group in groups for path in group["paths"]))
        arrays: dict[str, np.ndarray] = {}
        for group, path in zip(groups, files, strict=True):
            arrays |= _split(_floats(path), group["weights"], path)
    except (ValueError, KeyError) as e:
        raise DataCorrupt(
            f"{model.name} is not a TensorFlow.js model with a weights manifest: {e}"
        ) from e
    tensors: dict[str, Tensor] = {}
    for name, array in arrays.items():
        tensors |= _keras(name, array)
    save_file(tensors, out)


_PARTS = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}

# depthwise layers of stride 2, whose explicit padding is element 0 of their Sequential
_STRIDED = (2, 4, 6, 12)


def _keras(name: str, array: np.ndarray) -> dict[str, Tensor]:
    """One Keras weight under its name here; kernels (h, w, in, out) become (out, in, h, w)."""
    layer, _, part = name.partition("/")
    if layer == "conv_preds":
        return (
            {"fc.bias": _tensor(array)} if part == "bias" else {"fc.weight": _tensor(array[0, 0].T)}
        )
    words = layer.split("_")
    number = int(words[2]) if layer != "conv1" and words[0] == "conv" and len(words) > 2 else 0
    depthwise = number and words[1] == "dw"
    stem = f"blocks.{number - 1}.{int(not depthwise)}" if number else "stem"
    first = int(not number or (bool(depthwise) and number in _STRIDED))
    if part in _PARTS:
        key = f"{stem}.{first + 1}"
        count = {f"{key}.num_batches_tracked": torch.tensor(0)} if part == "gamma" else {}
        return {f"{key}.{_PARTS[part]}": _tensor(array)} | count
    return {
        f"{stem}.{first}.weight": _tensor(
            array.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
        )
    }


def _split(
    values: np.ndarray, weights: Sequence[Mapping[str, Any]], path: Path
) -> dict[str, np.ndarray]:
    sizes = [int(np.prod(w["shape"])) for w in weights]
    if sum(sizes) != values.size:
        raise DataCorrupt(f"{path.name} has {values.size} values, its manifest says {sum(sizes)}")
    cuts = np.split(values, np.cumsum(sizes)[:-1])
    return {w["name"]: cut.reshape(w["shape"]) for w, cut in zip(weights, cuts, strict=True)}


def _floats(path: Path) -> np.ndarray:
    content = path.read_bytes()
    if len(content) % 4:
        raise DataCorrupt(
            f"{path.name} has {len(content)} bytes, no whole number of float32 values"
        )
    return np.frombuffer(content, "<f4")


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array, np.float32, order="C"))
