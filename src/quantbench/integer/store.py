"""Integer programs on disk: one safetensors file, weights packed to their bits, operators as JSON in its header.

Packed weights are Huffman-coded (deflate without matching) where that saves bytes: rounded weights
crowd around zero.

A file is only data. Whatever it says is checked as a program made here would be, before any
executor sees it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.errors import BadInput, Unsupported
from quantbench.integer.ir import (
    LRN,
    Add,
    AvgPool,
    Concat,
    Conv,
    Dequantize,
    Flatten,
    Format,
    Island,
    Lut,
    MaxPool,
    Op,
    Pad,
    Program,
)
from quantbench.integer.packing import LARGEST_WEIGHT, code, decode, pack, unpack, width
from quantbench.integer.validate import validate
from quantbench.system.atomic import write_atomically

VERSION = 2

READS = (1, 2)  # 1 had no coded weights

_OPS: dict[str, type[Op]] = {
    c.__name__: c for c in (Conv, Add, Concat, MaxPool, AvgPool, LRN, Lut, Pad, Flatten, Dequantize)
}

_ARRAYS = {"weight", "weight_zero", "weight_scale", "bias", "lo", "hi", "table"}


def save(program: Program, path: Path) -> None:
    """Write a program; the file appears whole or not at all.

    Raises:
        Unsupported: float operators, which are code, not data.
        CannotWrite: the system refuses.

    """
    from safetensors.numpy import save as serialize

    tensors, meta = serialized(program)
    data = serialize(tensors, {"quantbench": json.dumps(meta)})
    write_atomically(path, data)


def load(path: Path) -> Program:
    """Read and check a program.

    Raises:
        BadInput: not a file of this kind, damaged, or a program that would not be safe to run.

    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as f:
            text = (f.metadata() or {}).get("quantbench", "")
            program = _parse(json.loads(text), {name: f.get_tensor(name) for name in f.keys()})  # noqa: SIM118 - not a dict
    except (
        SafetensorError,
        OSError,
        ValueError,
        TypeError,
        KeyError,
        OverflowError,
        RecursionError,
    ) as e:
        raise BadInput(f"{path}: not a saved integer network ({type(e).__name__}: {e})") from e
    validate(program)
    return program


def size(program: Program) -> int:
    """Bytes of weights, biases, scales and tables as saved."""
    return sum(t.nbytes for t in serialized(program)[0].values())


def serialized(program: Program) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Tensors by name, and the rest as JSON values."""
    tensors: dict[str, NDArray[Any]] = {}
    ops = []
    for i, op in enumerate(program.ops):
        if isinstance(op, Island):
            raise Unsupported(
                f"{op.name} runs in floats ({op.reason}); such a network cannot be saved"
            )
        entry: dict[str, Any] = {"op": type(op).__name__}
        for field in fields(op):
            value = getattr(op, field.name)
            if field.name == "weight":
                packed, tensors[f"{i}.values"] = pack(value)
                tensors |= (
                    {f"{i}.weight": packed}
                    if (short := code(packed)) is None
                    else {f"{i}.coded": short}
                )
                entry["shape"] = value.shape
            elif isinstance(value, np.ndarray):
                tensors[f"{i}.{field.name}"] = value
            else:
                entry[field.name] = asdict(value) if isinstance(value, Format) else value
        ops.append(entry)
    return tensors, {
        "version": VERSION,
        "input": asdict(program.input),
        "shape": program.shape,
        "ops": ops,
    }


def _parse(meta: Any, tensors: Mapping[str, NDArray[Any]]) -> Program:
    if meta["version"] not in READS:
        raise ValueError(
            f"version {meta['version']}; this quantbench reads {' and '.join(map(str, READS))}"
        )
    ops = tuple(_op(dict(entry), i, tensors) for i, entry in enumerate(meta["ops"]))
    return Program(_format(meta["input"]), _plain(meta["shape"]), ops)


def _op(entry: dict[str, Any], i: int, tensors: Mapping[str, NDArray[Any]]) -> Op:
    kind = _OPS[entry.pop("op")]
    arrays: dict[str, Any] = {}
    given = {*entry} - {"shape"} | {f.name for f in fields(kind) if f.name in _ARRAYS}
    if given != {f.name for f in fields(kind)}:
        raise ValueError(f"{kind.__name__} has other fields than {sorted(given)}")
    for field in fields(kind):
        if field.name == "weight":
            shape = tuple(int(s) for s in entry.pop("shape"))
            arrays["weight"] = unpack(_packed(i, tensors, shape), tensors[f"{i}.values"], shape)
        elif field.name in _ARRAYS and not (kind is Add and field.name in ("lo", "hi")):
            arrays[field.name] = tensors[f"{i}.{field.name}"]
    out = entry.pop("out")
    plain = {name: _plain(value) for name, value in entry.items()}
    return kind(**plain, **arrays, out=None if out is None else _format(out))


def _packed(
    i: int, tensors: Mapping[str, NDArray[Any]], shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    coded = tensors.get(f"{i}.coded")
    if coded is None:
        return tensors[f"{i}.weight"]
    if any(s < 1 for s in shape) or math.prod(shape) > LARGEST_WEIGHT:
        raise ValueError(f"weights of shape {shape}")
    return decode(coded, -(-math.prod(shape) * width(len(tensors[f"{i}.values"])) // 8))


def _format(entry: Mapping[str, Any]) -> Format:
    scale = entry["scale"]
    if not isinstance(scale, float) or set(entry) != {"scale", "zero", "lo", "hi"}:
        raise ValueError(f"format {entry}")
    return Format(**entry)


def _plain(value: Any) -> Any:
    """JSON's lists as the tuples that programs have."""
    if isinstance(value, list):
        return tuple(_plain(v) for v in value)
    return value
