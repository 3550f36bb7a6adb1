"""Saved programs come back as they were, and nothing malformed reaches an executor."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantbench.errors import BadInput, Unsupported
from quantbench.integer import oracle, packing, store
from quantbench.integer.backends.native import Native
from quantbench.integer.ir import Add, Conv, Format, Island, MaxPool, Program
from quantbench.integer.testing import fuzz
from quantbench.integer.validate import validate

SETTINGS = settings(max_examples=60, deadline=None, derandomize=True)


def conv(**changes: Any) -> Conv:
    values: dict[str, Any] = {
        "name": "c",
        "inputs": ("input",),
        "output": "y",
        "out": Format(1.0, 0),
        "weight": np.ones((4, 3, 3, 3), np.int8),
        "weight_zero": np.zeros(4, np.int16),
        "weight_scale": np.ones(4, np.float32),
        "bias": np.zeros(4, np.int32),
        "lo": np.zeros(4, np.uint8),
        "hi": np.full(4, 255, np.uint8),
        "pads": (1, 1, 1, 1),
    }
    return Conv(**{**values, **changes})


def program(*ops: Any, **changes: Any) -> Program:
    return Program(
        **{"input": Format(1.0, 0), "shape": (3, 8, 8), "ops": ops or (conv(),), **changes}
    )


def test_a_good_program_passes() -> None:
    validate(program())


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (program(ops=()), "no operators"),
        (program(shape=(3, 8)), "not three positive sizes"),
        (program(shape=(3, -8, 8)), "not three positive sizes"),
        (program(shape=(3, 1 << 15, 1 << 15)), "elements"),
        (program(input=Format(float("nan"), 0)), "scale"),
        (program(input=Format(0.0, 0)), "scale"),
        (program(input=Format(1.0, 256)), "not inside 0..255"),
        (program(input=Format(1.0, 5, 5, 5)), "not inside 0..255"),
        (program(input=Format(1.0, 0, 5, 9)), "without the zero"),
        (program(conv(inputs=("nowhere",))), "not made by an earlier"),
        (program(conv(), conv()), "made twice"),
        (program(conv(output="input")), "made twice"),
        (program(conv(inputs=())), "0 inputs"),
        (program(conv(name=7)), "names are not strings"),
        (program(conv(weight=np.ones((4, 3, 3, 3), np.int32))), "not int8"),
        (program(conv(weight=np.ones((4, 2, 3, 3), np.int8))), "does not fit 3 channels"),
        (program(conv(groups=3)), "does not fit"),
        (program(conv(groups=0)), "0 groups"),
        (program(conv(bias=np.zeros(5, np.int32))), "bias"),
        (program(conv(bias=np.zeros(4, np.int64))), "bias"),
        (program(conv(bias=np.full(4, (1 << 31) - 1, np.int32))), "leave int32"),
        (program(conv(weight_scale=np.full(4, np.inf, np.float32))), "ratio of scales"),
        (program(conv(weight_scale=np.zeros(4, np.float32))), "ratio of scales"),
        (program(conv(weight_zero=np.full(4, 300, np.int16))), "zero point"),
        (program(conv(stride=(0, 1))), "stride"),
        (program(conv(stride=(1.5, 1))), "stride"),
        (program(conv(stride=(1, 1, 1))), "stride"),
        (program(conv(pads=(1, 1, 1))), "pads"),
        (program(conv(pads=(-1, 0, 0, 0))), "pads"),
        (program(conv(dilation=(9, 9))), "not three positive sizes"),
        (program(conv(weight_bits=9)), "weight bits"),
        (program(conv(lo=np.full(4, 9, np.uint8), hi=np.full(4, 3, np.uint8))), "clamp"),
        (program(conv(out=Format(1.0, 0, 0, 15))), "clamp"),
        (program(conv(inputs=("input", "input"))), "residual"),
        (program(conv(inputs=("input", "input"), out=None)), "logits"),
        (program(conv(out=None), replace(conv(output="z"), inputs=("y",))), "floats"),
        (
            program(Add(name="a", inputs=("input",), output="y", out=Format(1.0, 0), lo=0, hi=255)),
            "1 inputs",
        ),
        (
            program(
                Add(
                    name="a",
                    inputs=("input", "input"),
                    output="y",
                    out=Format(1.0, 0),
                    lo=0,
                    hi=256,
                )
            ),
            "clamp",
        ),
        (
            program(
                MaxPool(
                    name="m",
                    inputs=("input",),
                    output="y",
                    out=Format(1.0, 0),
                    kernel=(2, 2),
                    stride=(2, 2),
                    pads=(2, 0, 0, 0),
                )
            ),
            "padding alone",
        ),
        (
            program(
                MaxPool(
                    name="m",
                    inputs=("input",),
                    output="y",
                    out=Format(2.0, 0),
                    kernel=(2, 2),
                    stride=(2, 2),
                )
            ),
            "keep its input's format",
        ),
    ],
)
def test_malformed_programs_are_named(bad: Program, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        validate(bad)


@SETTINGS
@given(seed=st.integers(0, 10_000))
def test_round_trip_gives_the_same_results(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    draw = fuzz.seeded(seed)
    made = fuzz.any_program(draw)
    x = fuzz.codes(draw, made, 1)
    path = tmp_path_factory.mktemp("store") / "net.safetensors"
    store.save(made, path)
    back = store.load(path)
    assert path.stat().st_size >= store.size(made)
    expected, got = oracle.run(made, x), oracle.run(back, x)
    assert all(np.array_equal(got[k], v) for k, v in expected.items())
    assert got.keys() == expected.keys()


def test_weights_that_crowd_around_zero_are_coded(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weight = np.clip(np.rint(rng.normal(0, 1.5, (16, 3, 9, 9))), -7, 7).astype(np.int8)
    zeros = {
        n: np.zeros(16, t)
        for n, t in (("weight_zero", np.int16), ("bias", np.int32), ("lo", np.uint8))
    }
    made = program(
        conv(
            weight=weight,
            weight_scale=np.ones(16, np.float32),
            hi=np.full(16, 255, np.uint8),
            pads=(4, 4, 4, 4),
            **zeros,
        )
    )
    tensors, _ = store.serialized(made)
    assert len(tensors["0.coded"]) < 0.8 * len(packing.pack(weight)[0])
    assert "0.weight" not in tensors
    store.save(made, tmp_path / "net")
    np.testing.assert_array_equal(store.load(tmp_path / "net").ops[0].weight, weight)


def saved(
    tmp_path: Path,
    change: Callable[[dict[str, Any]], object],
    tensors: dict[str, Any] | None = None,
) -> Path:
    from safetensors.numpy import save_file

    arrays, meta = store.serialized(program())
    meta = json.loads(json.dumps(meta))
    change(meta)
    path = tmp_path / "net.safetensors"
    save_file({**arrays, **(tensors or {})}, path, {"quantbench": json.dumps(meta)})
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(version=99),
        lambda m: m.pop("ops"),
        lambda m: m["ops"][0].update(op="Exec"),
        lambda m: m["ops"][0].update(op="Island"),
        lambda m: m["ops"][0].update(surprise=1),
        lambda m: m["ops"][0].pop("stride"),
        lambda m: m["ops"][0].update(stride=[1, 1 << 40]),
        lambda m: m["ops"][0].update(stride=[True, 1]),
        lambda m: m["ops"][0].update(pads=[0, 0, 0, -4]),
        lambda m: m["ops"][0].update(groups=2),
        lambda m: m["ops"][0].update(shape=[4, 3, 3, 4]),
        lambda m: m["ops"][0].update(shape=[4, 3, 3, -3]),
        lambda m: m["ops"][0].update(shape=[1 << 30, 1 << 30, 3, 3]),
        lambda m: m["ops"][0].update(inputs=["input", 3]),
        lambda m: m["ops"][0].update(inputs="input"),
        lambda m: m["input"].update(scale="1"),
        lambda m: m["input"].update(scale=1e-60),
        lambda m: m["input"].update(zero=3.5),
        lambda m: m.update(shape=[3, 8, 1e3]),
        lambda m: m.update(shape=[3, 2, 2]) or m["ops"][0].update(pads=[0, 0, 0, 0]),
    ],
)
def test_changed_headers_are_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    with pytest.raises(BadInput):
        store.load(saved(tmp_path, change))


@pytest.mark.parametrize(
    "tensors",
    [
        {"0.weight": np.zeros(1, np.uint8)},
        {"0.weight": np.zeros((2, 7), np.uint8)},
        {"0.values": np.zeros(0, np.int8)},
        {"0.values": np.arange(3, dtype=np.float32)},
        {"0.bias": np.zeros(3, np.int32)},
        {"0.bias": np.zeros(4, np.int16)},
        {"0.weight_scale": np.full(4, np.nan, np.float32)},
        {"0.hi": np.zeros(4, np.int64)},
    ],
)
def test_changed_tensors_are_refused(tmp_path: Path, tensors: dict[str, Any]) -> None:
    assert store.load(saved(tmp_path, lambda _: None)).ops[0].name == "c"
    with pytest.raises(BadInput):
        store.load(saved(tmp_path, lambda _: None, tensors))


@SETTINGS
@given(seed=st.integers(0, 10_000))
def test_damaged_files_never_do_more_than_fail(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("store") / "net.safetensors"
    store.save(fuzz.any_program(fuzz.seeded(seed % 20), length=3, size=6), path)
    data = bytearray(path.read_bytes())
    for _ in range(int(rng.integers(1, 4))):
        data[int(rng.integers(len(data)))] = int(rng.integers(256))
    path.write_bytes(data[: int(rng.integers(len(data) // 2, len(data) + 1))])
    try:
        loaded = store.load(path)
    except BadInput:
        return
    validate(loaded)  # the damage hit a number that may have any value


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A saved network of several operators."""
    path = tmp_path_factory.mktemp("store") / "net.safetensors"
    store.save(fuzz.any_program(fuzz.seeded(4), length=4, size=6), path)
    return path.read_bytes()


def test_truncated_files_are_refused(whole: bytes, tmp_path: Path) -> None:
    for size in (*range(0, len(whole), 37), len(whole) - 1):
        (tmp_path / "net").write_bytes(whole[:size])
        with pytest.raises(BadInput, match="not a saved integer network"):
            store.load(tmp_path / "net")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_flipped_bit_is_refused_or_is_another_sound_network(
    whole: bytes, share: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    bit = int(share * 8 * len(whole))
    data = bytearray(whole)
    data[bit // 8] ^= 1 << bit % 8
    path = tmp_path_factory.mktemp("store") / "net.safetensors"
    path.write_bytes(data)
    try:
        loaded = store.load(path)
    except BadInput:
        return
    if max(np.prod(shape) for shape in loaded.shapes.values()) > 1 << 16:
        return  # sound, but more than a test needs
    x = fuzz.codes(fuzz.seeded(1), loaded, 1)
    expected = oracle.run(loaded, x)
    if Native().available() is None:
        for name, codes in Native().compile(loaded).codes(x).items():
            np.testing.assert_array_equal(codes, expected[name], name)


def test_files_of_version_1_load_and_unknown_ones_say_what_is_read(tmp_path: Path) -> None:
    """Version 1 had no coded weights.

    Its files are those of version 2 whose weights are not worth coding.
    """
    from safetensors.numpy import save_file

    weight = np.clip(np.rint(np.random.default_rng(0).normal(0, 2, (4, 3, 9, 9))), -7, 7).astype(
        np.int8
    )
    made = program(conv(weight=weight, pads=(4, 4, 4, 4)))
    tensors, meta = store.serialized(made)
    packed, values = packing.pack(made.ops[0].weight)
    assert tensors.pop("0.coded") is not None
    for version in (1, 3):
        header = {"quantbench": json.dumps({**meta, "version": version})}
        save_file(
            {**tensors, "0.weight": packed, "0.values": values}, tmp_path / f"v{version}", header
        )
    x = np.random.default_rng(1).integers(0, 256, (2, 3, 8, 8)).astype(np.uint8)
    np.testing.assert_array_equal(
        oracle.run(store.load(tmp_path / "v1"), x)["y"], oracle.run(made, x)["y"]
    )
    with pytest.raises(BadInput, match="version 3; this quantbench reads 1 and 2"):
        store.load(tmp_path / "v3")


def test_programs_with_float_operators_are_not_saved(tmp_path: Path) -> None:
    shape = (3, 8, 8)
    island = Island(
        name="softmax",
        inputs=("input",),
        output="y",
        out=None,
        function=lambda t: t,
        shape=shape,
        reason="no integers",
    )
    with pytest.raises(Unsupported, match="softmax runs in floats"):
        store.save(program(island), tmp_path / "net.safetensors")
