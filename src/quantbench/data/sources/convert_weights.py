"""From published checkpoints to plain safetensors; nothing in them is ever executed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from quantbench.data import torch_file
from quantbench.errors import DataCorrupt


class Get(Protocol):
    """Brings files here, from the repository of the entry that is being built."""

    def __call__(self, *paths: str) -> list[Path]:
        """Download paths of the repository."""

    def second(self, below: str = "") -> Path:
        """Download the file of the entry's second source, or one of the folder that it names."""

    def other(self, name: str) -> Path:
        """Bring another entry of the table."""


def torch_pickle(get: Get, out: Path, source: str) -> None:
    """``torch.save`` files, read with ``weights_only``: the state dict, without ``module.``.

    Raises:
        DataCorrupt: the file is broken, or asks for anything but tensors and plain values.

    """
    (path,) = get(source)
    saved = torch_file.read(path)
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
        b, w = (floats(p) for p in (bias, weight))
        side = sides.get(key.rpartition(".")[2], 1)
        try:
            filters = w.reshape(len(b), side, side, -1).transpose(0, 3, 1, 2)
        except ValueError as e:
            raise DataCorrupt(
                f"{weight.name} has {w.size} values, which are no {len(b)} filters of {side}x{side}"
            ) from e
        tensors[f"{key}.weight"] = tensor(filters[..., 0, 0] if key == "fc" else filters)
        tensors[f"{key}.bias"] = tensor(b)
    save_file(tensors, out)


def llama2c(get: Get, out: Path, source: str) -> None:
    """llama2.c's .bin: seven sizes, then float32 values, one kind of weight of all layers a time.

    Named as transformers' LlamaForCausalLM, whose rotary positions pair value i of a head with
    i + head / 2 where llama2.c pairs neighbours: rows of queries and keys are put in its order.

    Raises:
        DataCorrupt: the sizes are none, or the file has fewer values than they say.

    """
    (path,) = get(source)
    content = path.read_bytes()
    sizes = np.frombuffer(content[: 7 * 4].ljust(7 * 4, b"\0"), "<i4").tolist()
    hidden, wide, layers, heads, shared, words, _ = sizes
    if min(sizes) < 1 or hidden % heads or heads % shared:
        raise DataCorrupt(f"{path.name} does not begin with the sizes of a llama2.c model: {sizes}")
    head, at, tensors = hidden // heads, 7 * 4, {}

    def take(*shape: int) -> np.ndarray:
        nonlocal at
        count = math.prod(shape)
        if at + 4 * count > len(content):
            raise DataCorrupt(f"{path.name} has {len(content)} bytes, too few for sizes {sizes}")
        at += 4 * count
        return np.frombuffer(content, "<f4", count, at - 4 * count).reshape(shape)

    tensors["model.embed_tokens.weight"] = tensor(take(words, hidden))
    for name, shape in (
        ("input_layernorm", (hidden,)),
        ("self_attn.q_proj", (hidden, hidden)),
        ("self_attn.k_proj", (shared * head, hidden)),
        ("self_attn.v_proj", (shared * head, hidden)),
        ("self_attn.o_proj", (hidden, hidden)),
        ("post_attention_layernorm", (hidden,)),
        ("mlp.gate_proj", (wide, hidden)),
        ("mlp.down_proj", (hidden, wide)),
        ("mlp.up_proj", (wide, hidden)),
    ):
        for i, weight in enumerate(take(layers, *shape)):
            halves = name.endswith(("q_proj", "k_proj"))
            rows = _halves(weight, head) if halves else weight
            tensors[f"model.layers.{i}.{name}.weight"] = tensor(rows)
    tensors["model.norm.weight"] = tensor(take(hidden))
    save_file(tensors, out)


def _halves(weight: np.ndarray, head: int) -> np.ndarray:
    """Rows (0, 1), (2, 3), ... of each head in the order 0, 2, ..., 1, 3, ...."""
    pairs = weight.reshape(-1, head // 2, 2, weight.shape[1])
    halves: np.ndarray = pairs.transpose(0, 2, 1, 3).reshape(weight.shape)
    return halves


def floats(path: Path) -> np.ndarray:
    """All of a raw file of little-endian float32 values."""
    content = path.read_bytes()
    if len(content) % 4:
        raise DataCorrupt(
            f"{path.name} has {len(content)} bytes, no whole number of float32 values"
        )
    return np.frombuffer(content, "<f4")


def tensor(array: np.ndarray) -> Tensor:
    """A float32 copy of an array."""
    return torch.from_numpy(np.array(array, np.float32, order="C"))
