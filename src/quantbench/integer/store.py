"""Integer programs on disk: one safetensors file, operators as JSON in its header.

Which fields an operator has, and which of them are arrays, is read off its class. Weights are
packed to the bits that their distinct values need, and Huffman-coded (deflate without matching)
where that saves bytes: rounded weights crowd around zero.

A file is only data. Whatever it says is checked as a program made here would be, before any
executor sees it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from quantbench import __version__
from quantbench.errors import BadInput, Unsupported
from quantbench.integer.ir import OPERATORS, Format, Island, Op, Program
from quantbench.integer.packing import LARGEST_WEIGHT, code, decode, pack, unpack, width
from quantbench.integer.validate import validate
from quantbench.system.atomic import write_atomically

VERSION = 2

READS = (1, 2)  # 1 had no coded weights

# an island is a function, and a file must not bring code
_OPS: dict[str, type[Op]] = {c.__name__: c for c in OPERATORS if c is not Island}


def _arrays(kind: type[Op]) -> set[str]:
    """Names of the fields that hold arrays, by their annotations."""
    hints = get_type_hints(kind)
    return {f.name for f in fields(kind) if get_origin(hints[f.name]) is np.ndarray}


# operators and their arrays, by name
_ARRAYS = {name: _arrays(kind) for name, kind in _OPS.items()}


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

    # whatever a file that anyone may have written can bring about
    damage = (SafetensorError, OSError, ValueError, TypeError, LookupError, OverflowError)
    try:
        with safe_open(path, framework="numpy") as f:
            text = (f.metadata() or {}).get("quantbench", "")
            tensors = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118 - not a dict
            program = _parse(json.loads(text), tensors)
    except (*damage, RecursionError) as e:
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
                f"{op.name} runs in floats ({op.reason}), which is code, not data: save the "
                "quantized network (qb.save), and lower it again after qb.load"
            )
        entry, arrays = _entry(op)
        ops.append(entry)
        tensors |= {f"{i}.{name}": array for name, array in arrays.items()}
    start = {
        "version": VERSION,
        "suite": __version__,
        "input": asdict(program.input),
        "shape": program.shape,
    }
    return tensors, {**start, "ops": ops}


def _entry(op: Op) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """One operator as JSON values, and its arrays by name."""
    entry: dict[str, Any] = {"op": type(op).__name__}
    arrays: dict[str, NDArray[Any]] = {}
    for field in fields(op):
        value = getattr(op, field.name)
        if field.name == "weight":
            packed, arrays["values"] = pack(value)
            short = code(packed)
            arrays |= {"weight": packed} if short is None else {"coded": short}
            entry["shape"] = value.shape
        elif isinstance(value, np.ndarray):
            arrays[field.name] = value
        else:
            entry[field.name] = asdict(value) if isinstance(value, Format) else value
    return entry, arrays


def _parse(meta: Any, tensors: Mapping[str, NDArray[Any]]) -> Program:
    if meta["version"] not in READS:
        raise ValueError(
            f"version {meta['version']}; this quantbench reads {' and '.join(map(str, READS))}; "
            f"written by quantbench {meta.get('suite', 'before 0.1')}, this is {__version__}"
        )
    ops = tuple(_op(dict(entry), i, tensors) for i, entry in enumerate(meta["ops"]))
    return Program(_format(meta["input"]), _plain(meta["shape"]), ops)


def _op(entry: dict[str, Any], i: int, tensors: Mapping[str, NDArray[Any]]) -> Op:
    name = entry.pop("op")
    kind, stored = _OPS[name], _ARRAYS[name]
    given = {*entry} - {"shape"} | stored
    if given != {f.name for f in fields(kind)}:
        raise ValueError(f"{name} has other fields than {sorted(given)}")
    arrays: dict[str, Any] = {n: tensors[f"{i}.{n}"] for n in sorted(stored - {"weight"})}
    if "weight" in stored:
        shape = tuple(int(s) for s in entry.pop("shape"))
        arrays["weight"] = unpack(_packed(i, tensors, shape), tensors[f"{i}.values"], shape)
    out = entry.pop("out")
    plain = {n: _plain(value) for n, value in entry.items()}
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
