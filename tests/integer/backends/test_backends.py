"""Other backends stay within a step of the definition; exported files stand on their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantbench.errors import BadInput, Unsupported
from quantbench.integer import oracle
from quantbench.integer.backends.base import NAMES, Backend, Difference, backend, differences
from quantbench.integer.ir import LRN, Conv, Format, Island, Program
from quantbench.integer.lowering.lower import lower
from quantbench.integer.scales import known, split_format
from quantbench.integer.simulate import Simulation
from quantbench.integer.testing import fuzz
from quantbench.latency.layers import layer_programs
from quantbench.methods.nearest import Nearest
from quantbench.models.cifar_resnet import CifarResNet
from quantbench.network.network import Network
from quantbench.quantization.method import quantize
from quantbench.quantization.scheme import Grid, Scheme

SETTINGS = settings(max_examples=25, deadline=None, derandomize=True)


def usable(name: str) -> Backend:
    found = backend(name)
    if why := found.available():
        pytest.skip(why)
    return found


@pytest.fixture(scope="module")
def resnet() -> tuple[Program, np.ndarray]:
    rng = torch.Generator().manual_seed(0)
    model = CifarResNet(8)
    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.weight.data = (
                torch.randn(layer.weight.shape, generator=rng)
                * (2 / layer.weight[0].numel()) ** 0.5
            )
            if layer.bias is not None:
                layer.bias.data = torch.randn(layer.bias.shape, generator=rng) / 10
    x = torch.randn(32, 3, 16, 16, generator=rng)
    weights = Grid(4, symmetric=False, per_channel=True, range="minmax")
    scheme = Scheme(weights, Grid(8, range="minmax"), placement="integer")
    q = quantize(Nearest(), Network.of(model.eval(), x[:1]), x, scheme)
    return lower(q), x.numpy()


def real(program: Program, codes: np.ndarray) -> np.ndarray:
    """Images whose codes are these."""
    return (
        (codes.astype(np.float32) - program.input.zero) * np.float32(program.input.scale)
    ).astype(np.float32)


def test_every_backend_answers_or_says_why_not() -> None:
    for name in NAMES:
        why = backend(name).available()
        assert why is None or len(why) > 10
    with pytest.raises(BadInput, match="no integer backend 'tvm'; there are native, onednn"):
        backend("tvm")


def test_difference_is_measured() -> None:
    d = Difference.between(np.array([1, 2, 3, 250], np.uint8), np.array([1, 2, 4, 247], np.uint8))
    assert (d.largest, d.share) == (3.0, 0.5)


def test_simulation_backend_is_exact(resnet: tuple[Program, np.ndarray]) -> None:
    program, x = resnet
    found = differences(backend("simulation").compile(program), program, x[:4])
    assert set(found) == set(program.formats)
    assert all(d == Difference(0.0, 0.0) for d in found.values())


@pytest.mark.parametrize("name", ["onednn", "onnxruntime", "openvino", "litert"])
def test_layers_are_within_a_step(name: str, resnet: tuple[Program, np.ndarray]) -> None:
    """Each layer alone, on the same codes.

    Rounding once more, or in another order, moves a tie by one, rarely.
    """
    runs = usable(name)
    program, x = resnet
    codes = Simulation(program).codes(torch.from_numpy(x[:8]))
    inputs = {op.name: op.inputs[0] for op in program.ops}
    # stem, stride 2, 64 channels, linear
    for layer, alone in list(layer_programs(program).items())[::3]:
        given_codes = codes[inputs[layer]].numpy()
        expected = oracle.run(alone, given_codes)["output"]
        compiled = runs.compile(alone)
        if alone.formats["output"] is None:
            got = compiled(real(alone, given_codes))
            if name == "litert":  # its logits have 8 bits
                assert np.abs(got - expected.reshape(got.shape)).max() < np.ptp(expected) / 32
                continue
            # float32 rounding
            np.testing.assert_allclose(got, expected.reshape(got.shape), rtol=1e-5, atol=1e-5)
        else:
            d = Difference.between(compiled.codes(real(alone, given_codes))["output"], expected)
            assert d.largest <= 1, layer
            assert d.share < 1e-3, layer


@pytest.mark.parametrize("name", ["onednn", "onnxruntime", "openvino"])
def test_whole_network_answers_alike(name: str, resnet: tuple[Program, np.ndarray]) -> None:
    program, x = resnet
    compiled = usable(name).compile(program)
    same_answers(compiled(x), Simulation(program)(torch.from_numpy(x)).numpy())
    found = differences(compiled, program, x[:4])
    assert set(found) == set(program.formats)
    assert found["input"] == Difference(0.0, 0.0)


def same_answers(got: np.ndarray, expected: np.ndarray) -> None:
    """The same class wherever the best two logits are further apart than their roundings."""
    best = np.sort(expected, 1)[:, -2:]
    sure = best[:, 1] - best[:, 0] > 2 * np.abs(got - expected).max()
    assert sure.mean() > 0.5
    assert (got.argmax(1) == expected.argmax(1))[sure].all()


def test_litert_answers_alike_though_it_splits_adds_and_logits(
    resnet: tuple[Program, np.ndarray],
) -> None:
    program, x = resnet
    compiled = usable("litert").compile(program)
    expected = Simulation(program)(torch.from_numpy(x)).numpy()
    assert np.corrcoef(compiled(x).ravel(), expected.ravel())[0, 1] > 0.98
    found = differences(compiled, program, x[:4])
    assert found["input"] == Difference(0.0, 0.0)
    assert found["relu_act"].largest <= 1
    assert set(found) == set(program.formats)


@SETTINGS
@given(st.data())
def test_onednn_on_random_programs(data: st.DataObject) -> None:
    runs = usable("onednn")
    program = fuzz.any_program(lambda lo, hi: data.draw(st.integers(lo, hi)), length=4, size=8)
    x = fuzz.codes(fuzz.seeded(0), program, 2)
    first_difference_is_a_step(program, differences(runs.compile(program), program, x))


@SETTINGS
@given(seed=st.integers(0, 10_000))
def test_onnxruntime_on_random_programs(seed: int) -> None:
    runs = usable("onnxruntime")
    draw = fuzz.seeded(seed)
    program = fuzz.any_program(draw, length=4, size=8)
    if any(isinstance(op, LRN) and op.size % 2 == 0 for op in program.ops):
        with pytest.raises(Unsupported, match="even LRN window"):
            runs.compile(program)
        return
    x = real(program, fuzz.codes(draw, program, 2))
    first_difference_is_a_step(program, differences(runs.compile(program), program, x))


def first_difference_is_a_step(program: Program, found: dict[str, Difference]) -> None:
    """Behind the first operator that differs, others get other inputs.

    A layer in front of a residual add may have an 8-bit tensor of its own, whose steps are wider
    than the output's where the residual's range is.
    """
    for op in program.ops:
        if op.out is not None and found[op.output].largest > 0:
            allowed = 1.0
            if isinstance(op, Conv) and len(op.inputs) > 1:
                own = split_format(op.out, known(program.formats[op.inputs[1]]))
                allowed = max(1.0, np.ceil(own.scale / op.out.scale))
            assert found[op.output].largest <= allowed, op
            return


@pytest.mark.parametrize("int4", [False, True])
def test_exported_file_gives_the_same_answers_in_a_plain_session(
    int4: bool, resnet: tuple[Program, np.ndarray], tmp_path: Path
) -> None:
    usable("onnxruntime")
    import onnx
    import onnxruntime

    from quantbench.integer.backends.onnx.export import save

    program, x = resnet
    path = tmp_path / "net.onnx"
    save(program, path, int4=int4)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == (21 if int4 else 17)
    kinds = {init.data_type for init in model.graph.initializer}
    assert (onnx.TensorProto.INT4 in kinds) == int4
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": x})
    same_answers(logits, Simulation(program)(torch.from_numpy(x)).numpy())


def test_int4_halves_the_file(resnet: tuple[Program, np.ndarray], tmp_path: Path) -> None:
    usable("onnxruntime")
    from quantbench.integer.backends.onnx.export import save

    for int4 in (False, True):
        save(resnet[0], tmp_path / f"{int4}.onnx", int4=int4)
    weights = sum(op.weight.size for op in resnet[0].ops if hasattr(op, "weight"))
    saved = (tmp_path / "False.onnx").stat().st_size - (tmp_path / "True.onnx").stat().st_size
    assert saved == pytest.approx(weights / 2, rel=0.05)  # zero points shrink too


def test_floats_that_are_no_graph_of_torch_cannot_be_exported() -> None:
    usable("onnxruntime")
    from quantbench.integer.backends.onnx.export import export

    f = Format(1.0, 0)
    island = Island(
        name="mul",
        inputs=("input",),
        output="y",
        out=f,
        function=torch.special.bessel_j0,
        shape=(1, 2, 2),
        reason="why",
    )
    with pytest.raises(Unsupported, match=r"mul runs in floats \(why\)"):
        export(Program(f, (1, 2, 2), (island,)))


@pytest.mark.parametrize("name", ["simulation", "onednn"])
def test_bad_images_are_refused(name: str, resnet: tuple[Program, np.ndarray]) -> None:
    compiled = usable(name).compile(resnet[0])
    for bad, says in (
        (resnet[1][:1].astype(np.float64), "float64"),
        (resnet[1][:1, :, :8], r"not float32 \(1, 3, 8, 16\)"),
        (np.full((1, 3, 16, 16), np.nan, np.float32), "NaN"),
    ):
        with pytest.raises(BadInput, match=says):
            compiled(bad)
