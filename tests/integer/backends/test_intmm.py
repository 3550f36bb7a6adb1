"""int8 matrix products against the oracle, code by code, on the processor and on CUDA."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantbench.errors import BadInput
from quantbench.integer import oracle
from quantbench.integer.backends.base import backend
from quantbench.integer.backends.intmm import IntMM
from quantbench.integer.ir import Conv, Format, Island, Program
from quantbench.integer.testing import fuzz
from quantbench.latency import runtimes, side_by_side
from quantbench.latency.samples import sample_program
from quantbench.latency.targets import Target
from tests.helpers.chains import Chain

NO_CUDA = "torch finds no CUDA device here"
on_cuda = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_CUDA)
)
on_every_device = pytest.mark.parametrize("device", ["cpu", on_cuda])


def same(program: Program, images: np.ndarray, device: str) -> None:
    """Every tensor of codes, and the output."""
    runs = IntMM(device)
    if why := runs.available():
        pytest.skip(why)
    compiled, expected = runs.compile(program), oracle.run(program, images)
    got = compiled.codes(images)
    assert got.keys() == {n for n, t in expected.items() if t.dtype == np.uint8}
    for name, codes in got.items():
        np.testing.assert_array_equal(codes, expected[name], name)
    output = compiled(images)
    np.testing.assert_array_equal(output, expected[program.output].reshape(output.shape), "output")


@on_every_device
@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_random_programs_equal_the_oracle(device: str, data: st.DataObject) -> None:
    def draw(lo: int, hi: int) -> int:
        return data.draw(st.integers(lo, hi))

    program = fuzz.any_program(draw, size=draw(4, 16))
    same(program, fuzz.codes(draw, program, 3), device)


@on_every_device
@pytest.mark.parametrize("zero", [None, 3, 255])
@pytest.mark.parametrize("acts", [2, 7, 8])
def test_layers_of_every_geometry(device: str, zero: int | None, acts: int) -> None:
    """Weights of up to 10 bits; codes with and without a shift; sizes not multiples of 8."""
    for kernel, stride, dilation, groups in (
        (1, 1, 1, 1),
        (3, 2, 1, 1),
        (3, 1, 2, 1),
        (2, 3, 1, 3),
        (3, 1, 1, 9),
    ):
        chain = Chain((9, 11, 7), acts, seed=kernel)
        x = chain.conv(
            "input", 18, kernel, stride, groups=groups, dilation=dilation, zero=zero, acts=acts
        )
        chain.conv(x, 18, 1, zero=zero, residual=x)
        for images in (chain.images(2), chain.images(1), chain.images(0)):
            same(chain.program(), images, device)


@on_every_device
@pytest.mark.parametrize(
    ("zero", "lo", "hi"), [(0, 0, 255), (255, 0, 255), (10, 0, 255), (7, 5, 40), (128, 1, 255)]
)
def test_sums_at_both_ends_of_int32(device: str, zero: int, lo: int, hi: int) -> None:
    """Extreme codes times extreme weights, and a bias that fills what is left of int32."""
    terms, largest = 4096, max(hi - zero, zero - lo)
    weight = (
        np.stack([np.full(terms, -128), np.full(terms, 127)])
        .astype(np.int8)
        .reshape(2, terms, 1, 1)
    )
    for value, bias in ((lo, 1), (hi, 1), (lo, -1), (hi, -1)):
        room = (1 << 31) - 1 - 128 * terms * largest
        op = Conv(
            name="c",
            inputs=("input",),
            output="c",
            out=None,
            weight=weight,
            weight_zero=np.zeros(2, np.int16),
            weight_scale=np.ones(2, np.float32),
            bias=np.full(2, bias * room, np.int32),
            lo=np.zeros(2, np.uint8),
            hi=np.zeros(2, np.uint8),
        )
        program = Program(Format(1.0, zero, lo, hi), (terms, 1, 1), (op,))
        same(program, np.full((3, terms, 1, 1), value, np.uint8), device)


@on_every_device
@pytest.mark.parametrize(
    ("network", "weights", "acts"),
    [("shapes/resnet8", 8, 8), ("shapes/resnet8", 4, 4), ("shapes/mobilenet", 4, 8)],
)
def test_whole_networks_equal_the_oracle(
    device: str, network: str, weights: int, acts: int
) -> None:
    """From float32 images: a network of products, and one of mostly depthwise layers."""
    _, program, images = sample_program(network, weight_bits=weights, act_bits=acts)
    same(program, images[:2], device)


@on_every_device
def test_images_are_divided_not_multiplied_by_a_reciprocal(device: str) -> None:
    """Whole and half multiples of scales whose reciprocals are rounded.

    Multiplied by those, ties would fall on the other side.
    """
    for scale in np.random.default_rng(0).uniform(0.01, 0.1, 50).astype(np.float32):
        f = Format(float(scale), 3)
        chain = Chain((1, 16, 16))
        chain.formats["input"] = f
        chain.conv("input", 2)
        steps = np.arange(256, dtype=np.float32).reshape(1, 1, 16, 16) / 2
        same(chain.program(), steps * scale, device)


@on_every_device
def test_floats_run_on_the_processor(device: str) -> None:
    """An operator in floats gives what it gives the oracle, wherever the rest runs."""
    chain = Chain((4, 5, 5))
    x = chain.conv("input", 8, 3)
    linear = torch.nn.Linear(5, 5)
    chain.push(
        Island(
            name="mix",
            inputs=(x,),
            output="island",
            out=Format(0.05, 3),
            function=linear,
            shape=(8, 5, 5),
            reason="no integer form",
        )
    )
    chain.conv("island", 3, 5, pad=0, logits=True)
    same(chain.program(), chain.images(3), device)


def test_it_says_why_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(backend("intmm"), IntMM)
    if not torch.cuda.is_available():
        assert IntMM().device.type == "cpu"
        assert "torch._int_mm does not run on cuda: " in str(IntMM("cuda").available())
    right = torch._int_mm
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: right(a, b).clamp(-(2**15), 2**15 - 1))
    assert "not exact on cpu" in str(IntMM("cpu").available())
    monkeypatch.delattr(torch, "_int_mm")
    assert "no _int_mm" in str(IntMM("cpu").available())


@pytest.mark.skipif(
    backend("native").available() is not None, reason=f"{backend('native').available()}"
)
@pytest.mark.parametrize("here", [True, False])
def test_latency_times_it_where_there_is_a_device_for_it(
    here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "PEERS", ())
    monkeypatch.setattr(side_by_side, "PROFILES", 1)
    monkeypatch.setattr(runtimes, "_no_accelerator", lambda _: None if here else NO_CUDA)
    said: list[str] = []
    target = Target("shapes/resnet8", 1)
    table = side_by_side.measure(target, seconds=0.0, say=said.append)
    assert ("intmm w8a8" in {r.what for r in table.rows}) == here
    assert said == ([] if here else [f"{target}: without intmm: {NO_CUDA}"])
    if here:
        assert table.away["intmm w8a8"] == (0.0, 0.0)
        assert np.isnan(table.ratio(table.rows[0]))  # ours is nobody's peer


def test_malformed_programs_and_images_are_refused() -> None:
    chain = Chain((3, 8, 8))
    chain.conv("input", 8, 3)
    program = chain.program()
    with pytest.raises(BadInput, match="bias"):
        IntMM("cpu").compile(
            replace(program, ops=(replace(program.ops[0], bias=np.zeros(3, np.int32)),))
        )
    with pytest.raises(BadInput, match="not float32"):
        IntMM("cpu").compile(program)(np.zeros((1, 3, 8, 9), np.float32))
