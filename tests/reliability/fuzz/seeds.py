"""Files that are right, or nearly so: what fuzzing begins with."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from quantbench.comparison.table import Comparison, Row
from quantbench.report.measured.document import Measured, to_markdown
from tests.network.onnx_files.corpus import external, model
from tests.reliability.corpus import (
    archives,
    baselines,
    cells,
    checkpoints,
    claims,
    latencies,
    programs,
    sweeps,
)


def of_claims() -> tuple[bytes, ...]:
    return (claims.GOOD.encode(), b"[schemes.x]\noverrides = { fc = [4, 8] }", b"a = 1.5e3")


def of_words() -> tuple[bytes, ...]:
    return b"w4", b"w4a8-channel", b"w2a8-integer"


def of_sweeps() -> tuple[bytes, ...]:
    return sweeps.GOOD.encode(), b"[[method]]\ngrid = { lr = [0.1] }"


def of_checkpoints() -> tuple[bytes, ...]:
    return (save({name: t for name, t in checkpoints.whole().items() if t.numel() < 99}),)


def of_pickles() -> tuple[bytes, ...]:
    old = checkpoints.saved({"a": torch.ones(3)}, _use_new_zipfile_serialization=False)
    return checkpoints.saved({"state_dict": {"a": torch.ones(3)}}), old


def saved(name: str) -> Callable[[], tuple[bytes, ...]]:
    return lambda: ((programs.SAVED / name).read_bytes(),)


def of_onnx() -> tuple[bytes, ...]:
    whole = model()
    return whole.SerializeToString(), external(model(), "w", "w.bin").SerializeToString()


def of_baselines() -> tuple[bytes, ...]:
    with tempfile.TemporaryDirectory() as folder:
        baselines.whole(Path(folder) / "b.json")
        return ((Path(folder) / "b.json").read_bytes(),)


def of_cells() -> tuple[bytes, ...]:
    with tempfile.TemporaryDirectory() as folder:
        return (cells.whole(Path(folder)).read_bytes(),)


def of_latencies() -> tuple[bytes, ...]:
    return (json.dumps(latencies.whole()).encode(),)


def of_comparisons() -> tuple[bytes, ...]:
    rows = [
        Row("base", "float32", np.array([1, 1, 1, 0]), 4_000_000, 2.0),
        Row("ours", "w8a8", np.array([1, 1, 0, 0]), 1_000_000, 0.5, "a note"),
        Row("theirs", "w8a8", np.array([1, 0, 0, 0])),
    ]
    with tempfile.TemporaryDirectory() as folder:
        Comparison("a set", "top1", tuple(rows), 1, ("of all",)).save(Path(folder) / "c.json")
        return ((Path(folder) / "c.json").read_bytes(),)


def of_scores() -> tuple[bytes, ...]:
    return b"label,mytool w4a8,other\n3,1,0.5\n1,0,0.25\n", b"mytool\n1\n", b'"a ""w4""",b\n1,0\n'


def of_measured() -> tuple[bytes, ...]:
    row = Measured("MISSED(why)", "a/b|c", "x", "1 [0, 2]", "+1", "abc", "a machine", "a day", "12")
    return to_markdown([row]).encode(), to_markdown([]).encode()


def of_manifests() -> tuple[bytes, ...]:
    return (
        b"outs:\n- md5: 00112233445566778899aabbccddeeff\n  path: data/x\n  remote: real\n",
        b"{}",
    )


def of_tars() -> tuple[bytes, ...]:
    whole = archives.WHOLE
    return whole, gzip.compress(whole, mtime=0), archives.tar(archives.member("../x"))


def of_zips() -> tuple[bytes, ...]:
    return archives.zipped(a_json=b"[1, 2]" * 9), archives.zipped(a_json=b"[]", b_txt=b"b")
