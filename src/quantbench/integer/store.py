"""Integer programs on disk: one safetensors file, weights packed to their bits, operators as JSON in its header.

A file is only data. Whatever it says is checked as a program made here would be, before any executor sees it.
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
from quantbench.integer.check import check
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

VERSION = 1
LARGEST_WEIGHT = 1 << 31  # elements
_OPS: dict[str, type[Op]] = {
    c.__name__: c for c in (Conv, Add, Concat, MaxPool, AvgPool, LRN, Lut, Pad, Flatten, Dequantize)
}
_ARRAYS = {"weight", "weight_zero", "weight_scale", "bias", "lo", "hi", "table"}


def save(program: Program, path: Path) -> None:
    """Write a program; the file appears whole or not at all.

    Raises:
        Unsupported: float operators, which are code, not data.

    """
    from safetensors.numpy import save as serialize

    tensors, meta = serialized(program)
    data = serialize(tensors, {"quantbench": json.dumps(meta)})
    part = path.with_suffix(path.suffix + ".part")
    part.write_bytes(data)
    part.replace(path)


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
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as e:
        raise BadInput(f"{path}: not a saved integer network ({type(e).__name__}: {e})") from e
    check(program)
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
            raise Unsupported(f"{op.name} runs in floats ({op.reason}); such a network cannot be saved")
        entry: dict[str, Any] = {"op": type(op).__name__}
        for field in fields(op):
            value = getattr(op, field.name)
            if field.name == "weight":
                tensors[f"{i}.weight"], tensors[f"{i}.values"] = pack(value)
                entry["shape"] = value.shape
            elif isinstance(value, np.ndarray):
                tensors[f"{i}.{field.name}"] = value
            else:
                entry[field.name] = asdict(value) if isinstance(value, Format) else value
        ops.append(entry)
    return tensors, {"version": VERSION, "input": asdict(program.input), "shape": program.shape, "ops": ops}


def pack(weight: NDArray[np.int8]) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """Weights as bits, most significant first, that index their distinct values: (bytes, values ascending)."""
    values, index = np.unique(weight, return_inverse=True)
    bits = _bits(len(values))
    planes = (index.reshape(-1, 1) >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(planes.astype(np.uint8)), values.astype(np.int8)


def unpack(packed: NDArray[np.uint8], values: NDArray[np.int8], shape: tuple[int, ...]) -> NDArray[np.int8]:
    """The inverse of ``pack``.

    Raises:
        ValueError: sizes that do not go together.

    """
    count, bits = math.prod(shape), _bits(len(values))
    if packed.dtype != np.uint8 or values.dtype != np.int8 or packed.ndim != 1 or values.ndim != 1:
        raise ValueError("packed weights are not bytes")
    if any(s < 1 for s in shape) or count > LARGEST_WEIGHT or len(packed) != -(-count * bits // 8):
        raise ValueError(f"{len(packed)} bytes do not hold {count} weights of {bits} bits")
    planes = np.unpackbits(packed, count=count * bits).reshape(count, bits)
    index = planes.astype(np.int64) @ (1 << np.arange(bits - 1, -1, -1))
    if index.max() >= len(values):
        raise ValueError("a packed weight has no value")
    return values[index].reshape(shape)


def _bits(distinct: int) -> int:
    if not 1 <= distinct <= 256:
        raise ValueError(f"{distinct} distinct weights")
    return max(1, math.ceil(math.log2(distinct)))


def _parse(meta: Any, tensors: Mapping[str, NDArray[Any]]) -> Program:
    if meta["version"] != VERSION:
        raise ValueError(f"version {meta['version']}; this quantbench reads {VERSION}")
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
            arrays["weight"] = unpack(tensors[f"{i}.weight"], tensors[f"{i}.values"], shape)
        elif field.name in _ARRAYS and not (kind is Add and field.name in ("lo", "hi")):
            arrays[field.name] = tensors[f"{i}.{field.name}"]
    out = entry.pop("out")
    plain = {name: _plain(value) for name, value in entry.items()}
    return kind(**plain, **arrays, out=None if out is None else _format(out))


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
