"""Files that other tools have quantized, against ONNX Runtime in its exact mode."""

from pathlib import Path

import numpy as np
import pytest
import torch

import quantbench as qb
from quantbench.integer.ir import AvgPool, Concat, Conv, Island, Mul, Rearrange, Select
from quantbench.integer.simulate import Simulation
from tests.helpers.onnx_models import Mixed, export, images, seeded

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

from quantbench.integer.qdq.agreement import agreement  # noqa: E402
from quantbench.integer.qdq.read import read  # noqa: E402

DATA = Path(__file__).parent / "data"

SHARE = 2e-3  # of codes, where floats meet the edge of rounding


class Calibration:
    """Batches as ONNX Runtime's quantizer reads them."""

    def __init__(self, x):
        self.batches = iter([{"images": x[i : i + 4].numpy()} for i in range(0, len(x), 4)])

    def get_next(self):
        return next(self.batches, None)


class Spelled(torch.nn.Module):
    """Activation functions of one tensor, of which some are spelled out."""

    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 8, 3, stride=2)
        self.c, self.fc = torch.nn.Conv2d(8, 8, 1), torch.nn.Linear(8, 5)

    def forward(self, x):
        f = torch.nn.functional
        y = f.hardswish(self.b(f.silu(self.a(x))))
        y = f.leaky_relu(self.c(y), 0.1)
        return f.softmax(self.fc(y.mean((2, 3))), dim=1)


class Shuffled(torch.nn.Module):
    """Halves of channels, a gate for each, and a shuffle whose sizes are asked for."""

    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.Conv2d(4, 4, 3, padding=1)
        self.gate, self.fc = torch.nn.Conv2d(4, 4, 1), torch.nn.Linear(8, 5)

    def forward(self, x):
        left, right = self.a(x).relu().chunk(2, 1)
        right = self.b(right)
        right = right * self.gate(right.mean((2, 3), keepdim=True)).sigmoid()
        y = torch.cat([left, right.relu()], 1)
        n, c, h, w = y.shape
        y = y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.fc(torch.nn.functional.adaptive_avg_pool2d(y, 1).flatten(1))


def quantized(tmp_path, make, **options):
    """A file of ONNX Runtime's static quantization."""
    from onnxruntime import quantization as q

    path, out = export(seeded(make), tmp_path / "float.onnx", images(2)), tmp_path / "q.onnx"
    kinds = {k: q.QuantType[v] for k, v in options.items() if k.endswith("_type")}
    options = {**options, **kinds, "quant_format": q.QuantFormat[options["quant_format"]]}
    q.quantize_static(str(path), str(out), Calibration(images(16)), **options)
    return out


# what ONNX Runtime has kernels of: form, activations, weights, a scale a channel
KINDS = [
    *((("QDQ"), a, w, c) for a in ("QUInt8", "QInt8") for w in ("QInt8",) for c in (False, True)),
    ("QDQ", "QUInt8", "QUInt8", False),
    ("QOperator", "QUInt8", "QInt8", False),
    ("QOperator", "QUInt8", "QInt8", True),
    ("QOperator", "QUInt8", "QUInt8", False),
]


@pytest.mark.parametrize(("form", "acts", "weights", "per_channel"), KINDS)
def test_onnx_runtime(tmp_path, form, per_channel, acts, weights):
    path = quantized(
        tmp_path,
        Mixed,
        quant_format=form,
        per_channel=per_channel,
        activation_type=acts,
        weight_type=weights,
    )
    found = read(path)
    assert not [op for op in found.program.ops if isinstance(op, Island)]
    assert found.per_channel == per_channel
    assert found.producer.startswith("onnx.quantize")
    far = agreement(found, images(32, seed=5).numpy())
    assert far.codes > 80_000
    assert far.largest <= 1
    assert far.share <= SHARE
    assert far.answers == 1.0
    float_ = Simulation(found.program)(images(32, seed=5))
    with torch.no_grad():
        wanted = seeded(Mixed)(images(32, seed=5))
    assert float((float_ - wanted).norm() / wanted.norm()) < 0.15


def test_tables_and_softmax(tmp_path):
    """SiLU, whose sigmoid is quantized on its own, is a table of one tensor all the same."""
    path = quantized(tmp_path, Spelled, quant_format="QDQ", per_channel=True)
    found = read(path)
    kinds = [type(op).__name__ for op in found.program.ops]
    assert kinds.count("Lut") >= 3
    assert kinds[-2:] == ["Island", "Dequantize"]
    assert any("softmax" in note for note in found.notes)
    far = agreement(found, images(16, seed=5).numpy())
    assert far.largest <= 1
    assert far.share <= SHARE
    assert far.answers == 1.0


class Gelus(torch.nn.Module):
    """A GELU, whose sums and products with numbers are quantized one by one, and a PReLU."""

    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3)
        self.slope, self.fc = torch.nn.PReLU(), torch.nn.Linear(8, 5)

    def forward(self, x):
        y = self.slope(self.b(torch.nn.functional.gelu(self.a(x))))
        return self.fc(torch.nn.functional.adaptive_avg_pool2d(y, 1).flatten(1))


def test_functions_that_are_spelled_out_with_quantized_numbers(tmp_path):
    found = read(quantized(tmp_path, Gelus, quant_format="QDQ", per_channel=True))
    assert not [op for op in found.program.ops if isinstance(op, Island)]
    far = agreement(found, images(16, seed=5).numpy())
    assert far.largest <= 1
    assert far.share <= SHARE
    assert far.answers == 1.0


def test_files_with_scales_that_follow_each_input_are_refused(tmp_path):
    from onnxruntime.quantization import quantize_dynamic

    path, out = export(seeded(Mixed), tmp_path / "float.onnx", images(2)), tmp_path / "q.onnx"
    quantize_dynamic(str(path), str(out))
    for reading in (read, qb.network):
        with pytest.raises(qb.Unsupported, match="quantized dynamically, with scales that follow"):
            reading(str(out))


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_gates_and_shuffles(tmp_path, form):
    options = {"quant_format": form, "activation_type": "QUInt8", "per_channel": True}
    found = read(quantized(tmp_path, Shuffled, **options))
    kinds = {type(op) for op in found.program.ops}
    assert {Mul, Select, Rearrange} <= kinds
    assert Island not in kinds
    far = agreement(found, images(16, seed=5).numpy())
    assert far.largest <= 1
    assert far.share <= SHARE


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
def test_neural_compressor(form):
    found = read(DATA / f"neural_compressor_{form}.onnx")
    far = agreement(found, images(64, seed=5).numpy())
    assert (far.differ, far.largest, far.answers) == (0, 0, 1.0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("preset", ["performance", "mixed"])
def test_nncf(tmp_path, preset):
    """Float biases, signed and unsigned activations, quantizers missing behind pools."""
    nncf = pytest.importorskip("nncf", reason="NNCF is not installed")
    model = onnx.load(export(seeded(Mixed), tmp_path / "float.onnx", images(2)))
    data = nncf.Dataset([{"images": images(16)[i : i + 1].numpy()} for i in range(16)])
    made = nncf.quantize(model, data, preset=nncf.QuantizationPreset(preset), subset_size=16)
    path = tmp_path / "nncf.onnx"
    onnx.save(made, path)
    found = read(path)
    assert any("biases are floats" in note for note in found.notes)
    assert found.program.ops[-1].out is None
    assert isinstance(found.program.ops[-1], Conv)  # logits of a layer, in floats
    kinds = [type(op) for op in found.program.ops]
    assert kinds.index(AvgPool) < kinds.index(Concat)  # a mean of a whole is the parts' means
    far = agreement(found, images(32, seed=5).numpy())
    assert far.largest <= 1
    assert far.share <= SHARE
    assert far.answers == 1.0


@pytest.mark.parametrize("bits", [(8, 8), (4, 8), (4, 4)], ids=str)
@pytest.mark.parametrize("int4", [False, True], ids=["int8", "int4"])
@pytest.mark.parametrize("make", [Mixed, Shuffled])
def test_our_own_export_comes_back(tmp_path, make, bits, int4):
    """Code by code: what leaves as QDQ is the same network when it is read."""
    from quantbench.integer.backends.onnx import export as onnx_export

    weights, acts = bits
    scheme = qb.Scheme(
        qb.Grid(weights, per_channel=True),
        qb.Grid(acts, symmetric=False, range="minmax"),
        placement="integer",
    )
    x = images(16)
    net = qb.Network.of(seeded(make), x[:2])
    program = qb.lower(qb.quantize(qb.method("nearest"), net, x, scheme))
    path = tmp_path / "ours.onnx"
    onnx_export.save(program, path, int4=int4)
    again = read(path)
    assert again.weight_bits == (weights if int4 and weights == 4 else 8)
    assert torch.equal(Simulation(again.program)(x), Simulation(program)(x))


def test_saturation_is_measured(tmp_path):
    """Without VNNI the default mode saturates at int16; the exact mode gives our codes."""
    kinds = {"quant_format": "QOperator", "activation_type": "QUInt8"}
    path = quantized(tmp_path, Mixed, per_channel=True, **kinds)
    found, x = read(path), images(16, seed=5).numpy()
    exact, plain = (agreement(found, x, precise=p) for p in (True, False))
    assert exact.differ == 0
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if "vnni" in flags or "avx2" not in flags:
        pytest.skip("this processor's default mode is exact")
    assert plain.differ > 0
    assert np.isfinite(plain.logits)
