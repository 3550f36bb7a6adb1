"""Patterns of quantized files one by one, and what is refused by the node's name."""

import numpy as np
import pytest
import torch

import quantbench as qb
from quantbench.errors import BadInput, Unsupported
from quantbench.integer.ir import Add, AvgPool, Conv, Flatten, Island, Lut, MaxPool, Mul
from quantbench.integer.simulate import Simulation
from tests.helpers.onnx_models import graph

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

from quantbench.integer.qdq.agreement import agreement  # noqa: E402
from quantbench.integer.qdq.read import read  # noqa: E402

RNG = np.random.default_rng(0)


class Builder:
    """Writes pairs of quantizing nodes; tensors are uint8 with the zero point 100 unless told."""

    def __init__(self):
        self.nodes, self.stored = [], {}

    def pair(self, real, scale=0.02, zero=100, kind=np.uint8, *, into=None):
        """Q and DQ of a float tensor."""
        name = f"t{len(self.nodes)}"
        self.stored |= {f"{name}.s": np.float32(scale), f"{name}.z": kind(zero)}
        about = [f"{name}.s", f"{name}.z"]
        self.nodes.append(("QuantizeLinear", [real, *about], [f"{name}.q"], {}))
        out = into or f"{name}.d"
        self.nodes.append(("DequantizeLinear", [f"{name}.q", *about], [out], {}))
        return out

    def weight(self, shape, *, axis=0, scale=None, kind=np.int8, zero=0):
        """DQ of stored codes, with a scale along an axis."""
        name, info = f"w{len(self.nodes)}", np.iinfo(kind)
        self.stored[f"{name}.q"] = RNG.integers(info.min, info.max, shape, endpoint=True).astype(
            kind
        )
        count = shape[axis]
        scales = RNG.uniform(5e-4, 2e-3, count).astype(np.float32) if scale is None else scale
        self.stored[f"{name}.s"] = np.asarray(scales, np.float32)
        zeros = np.full(np.shape(scales), zero, kind)
        self.stored[f"{name}.z"] = zeros
        ins = [f"{name}.q", f"{name}.s", f"{name}.z"]
        more = {"axis": axis} if np.ndim(scales) else {}
        self.nodes.append(("DequantizeLinear", ins, [f"{name}.d"], more))
        return f"{name}.d"

    def put(self, kind, inputs, out=None, **attributes):
        out = out or f"n{len(self.nodes)}"
        self.nodes.append((kind, inputs, [out], attributes))
        return out

    def const(self, value):
        name = f"c{len(self.stored)}"
        self.stored[name] = np.asarray(value)
        return name

    def read(self, tmp_path, classes, **about):
        path = tmp_path / "file.onnx"
        path.write_bytes(
            graph(self.nodes, self.stored, out=("N", classes), **about).SerializeToString()
        )
        return read(path)


def images(n=8, shape=(3, 8, 8)):
    return RNG.uniform(-2, 2, (n, *shape)).astype(np.float32)


def same(found, *, share=0.01):
    """Every code that both have, within a step; and the same answers."""
    far = agreement(found, images())
    assert far.codes > 0
    assert far.largest <= 1, far
    assert far.share <= share, far


@pytest.fixture
def b():
    return Builder()


def head(b, x, width, classes=4):
    """Mean, flatten, linear: to the output."""
    mean = b.pair(b.put("GlobalAveragePool", [x]), 0.01)
    flat = b.put("Flatten", [mean], axis=1)
    b.put("Gemm", [flat, b.weight((classes, width))], "y", transB=1)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((6, 3, 3, 3), {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
        ((6, 1, 3, 2), {"group": 3, "dilations": [2, 1]}),
        ((6, 3, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ((6, 3, 4, 3), {"auto_pad": "SAME_LOWER", "strides": [2, 1]}),
        ((6, 3, 1, 1), {}),
    ],
    ids=["asymmetric", "grouped and dilated", "same upper", "same lower", "1x1"],
)
def test_convolutions(b, tmp_path, shape, options):
    x = b.pair("x")
    y = b.put("Conv", [x, b.weight(shape)], kernel_shape=list(shape[2:]), **options)
    head(b, b.pair(b.put("Relu", [y]), 0.02, 0), 6)
    same(b.read(tmp_path, 4))


@pytest.mark.parametrize(("kind", "zero"), [(np.uint8, 128), (np.uint8, 7), (np.int8, 3)])
def test_weights_with_zero_points(b, tmp_path, kind, zero):
    w = b.weight((6, 3, 3, 3), kind=kind, zero=zero, scale=np.float32(0.001))
    head(b, b.pair(b.put("Conv", [b.pair("x"), w])), 6)
    same(b.read(tmp_path, 4))


def test_a_weight_that_is_rounded_in_the_file(b, tmp_path):
    real = RNG.normal(0, 0.1, (6, 3, 3, 3)).astype(np.float32)
    about = [b.const(np.full(6, 0.002, np.float32)), b.const(np.zeros(6, np.int8))]
    q = b.put("QuantizeLinear", [b.const(real), *about], axis=0)
    w = b.put("DequantizeLinear", [q, *about], axis=0)
    head(b, b.pair(b.put("Conv", [b.pair("x"), w])), 6)
    same(b.read(tmp_path, 4))


def test_clip_is_the_layers_clamp(b, tmp_path):
    y = b.put("Conv", [b.pair("x"), b.weight((6, 3, 3, 3))])
    y = b.put("Clip", [y, b.const(np.float32(-0.1)), b.const(np.float32(0.3))])
    head(b, b.pair(y, 0.01, 90), 6)
    found = b.read(tmp_path, 4)
    conv = found.program.ops[0]
    assert isinstance(conv, Conv)
    assert (conv.lo[0], conv.hi[0]) == (80, 120)
    same(found)


@pytest.mark.parametrize("bounds", [(None, 0.3), (-0.1, None)], ids=["above", "below"])
def test_a_bound_that_is_left_out_is_none(b, tmp_path, bounds):
    """Of a table: the name of a bound that is left out is empty, and the other keeps its place."""
    x = b.pair(b.put("Conv", [b.pair("x"), b.weight((6, 3, 3, 3))]))
    given = ["" if v is None else b.const(np.float32(v)) for v in bounds]
    head(b, b.pair(b.put("Clip", [x, *given]), 0.02, 90), 6)
    same(b.read(tmp_path, 4))


def test_tables_of_tables_are_read_back(tmp_path):
    model = torch.nn.Sequential(
        torch.nn.Linear(12, 8),
        torch.nn.SiLU(),
        torch.nn.Hardtanh(-0.1, 0.3),
        torch.nn.Hardtanh(0.0, 0.2),
        torch.nn.Linear(8, 5),
    ).eval()
    x = torch.randn(16, 12, generator=torch.Generator().manual_seed(0))
    net = qb.Network.of(model, x[:2])
    program = qb.lower(qb.quantize(qb.method("nearest"), net, x, qb.scheme("w8a8")))
    assert sum(isinstance(op, Lut) for op in program.ops) > 1
    qb.save_onnx(program, tmp_path / "tables.onnx")
    again = read(tmp_path / "tables.onnx").program
    given = x.reshape(-1, *program.shape)
    assert torch.equal(Simulation(again)(given), Simulation(program)(given))


def test_an_add_behind_a_layer_without_quantizer_is_its_residual(b, tmp_path):
    x = b.pair(b.put("Conv", [b.pair("x"), b.weight((3, 3, 1, 1))]))
    total = b.put("Add", [x, b.put("Conv", [x, b.weight((3, 3, 3, 3))], pads=[1, 1, 1, 1])])
    head(b, b.pair(b.put("Relu", [total]), 0.02, 0), 3)
    found = b.read(tmp_path, 4)
    assert [len(op.inputs) for op in found.program.ops if isinstance(op, Conv)] == [1, 2, 1]
    same(found)


def test_matmul_with_a_bias_behind_it(b, tmp_path):
    x = b.put("Flatten", [b.pair("x")], axis=1)
    y = b.put("MatMul", [x, b.weight((192, 5), axis=1)])
    y = b.pair(b.put("Add", [y, b.const(RNG.normal(0, 1, 5).astype(np.float32))]), 0.1)
    b.put("Gemm", [y, b.weight((4, 5))], "y", transB=1)
    found = b.read(tmp_path, 4)
    assert [type(op) for op in found.program.ops] == [Flatten, Conv, Conv]
    same(found)


def test_a_shortcut_without_weights_is_subsampled_and_padded(b, tmp_path):
    x = b.pair("x", 0.02, 90)
    ends = [b.const(np.array(v, np.int64)) for v in ([0, 0], [2**63 - 1, 8], [2, 3], [2, 2])]
    short = b.put("Slice", [x, *ends])
    amounts = b.const(np.array([0, 1, 0, 0, 0, 2, 0, 0], np.int64))
    short = b.pair(b.put("Pad", [short, amounts]), 0.02, 90)
    y = b.put("Conv", [x, b.weight((6, 3, 3, 3))], pads=[1, 1, 1, 1], strides=[2, 2])
    head(b, b.pair(b.put("Add", [y, short])), 6)
    found = b.read(tmp_path, 4)
    assert [type(op).__name__ for op in found.program.ops[:3]] == ["Pad", "Pad", "Conv"]
    same(found)


def test_a_slice_of_channels_is_a_choice(b, tmp_path):
    ends = [b.const(np.array(v, np.int64)) for v in ([1], [3], [1])]
    y = b.put("Slice", [b.pair("x"), *ends])
    head(b, b.pair(b.put("Conv", [y, b.weight((6, 2, 3, 3))])), 6)
    found = b.read(tmp_path, 4)
    assert found.program.ops[0].channels == (1, 2)
    same(found)


def test_a_gate_for_each_channel_is_a_product(b, tmp_path):
    """Squeeze and excitation, as ONNX Runtime's quantizer leaves it."""
    x = b.pair(b.put("Conv", [b.pair("x"), b.weight((6, 3, 3, 3))]))
    mean = b.pair(b.put("GlobalAveragePool", [x]), 0.01)
    gate = b.pair(b.put("Conv", [mean, b.weight((6, 6, 1, 1))]), 0.01)
    gate = b.pair(b.put("Sigmoid", [gate]), 1 / 255, 0)
    y = b.put("Relu", [b.put("Mul", [gate, x])])
    head(b, b.pair(y, 0.02, 0), 6)
    found = b.read(tmp_path, 4)
    assert [op.out.scale for op in found.program.ops if isinstance(op, Mul)] == [np.float32(0.02)]
    same(found, share=0.02)


@pytest.mark.parametrize("pairs", [False, True])
def test_channels_are_shuffled(b, tmp_path, pairs):
    """With pairs of quantizing nodes around every change of shape, or none."""

    def seen(tensor):
        return b.pair(tensor) if pairs else tensor

    x = b.pair(b.put("Conv", [b.pair("x"), b.weight((6, 3, 1, 1))]))
    x = seen(b.put("Reshape", [x, b.const(np.array([-1, 2, 3, 8, 8]))]))
    x = seen(b.put("Transpose", [x], perm=[0, 2, 1, 3, 4]))
    x = seen(b.put("Relu", [x]))
    x = b.pair(b.put("Reshape", [x, b.const(np.array([-1, 6, 8, 8]))]))
    head(b, b.pair(b.put("Conv", [x, b.weight((4, 6, 1, 1))])), 4)
    same(b.read(tmp_path, 4))


def test_directions_are_turned_and_taken_away(b, tmp_path):
    """Rows become channels; a vector gets a direction and loses it."""
    x = b.pair(b.put("Conv", [b.pair("x"), b.weight((6, 3, 1, 1))]))
    x = b.put("Transpose", [x], perm=[0, 2, 3, 1])
    x = b.put("Unsqueeze", [x, b.const(np.array([-1]))])
    x = b.pair(b.put("Squeeze", [x, b.const(np.array([4]))]))
    mean = b.pair(b.put("GlobalAveragePool", [x]), 0.01)
    flat = b.put("Squeeze", [mean, b.const(np.array([2, 3]))])
    b.put("Gemm", [flat, b.weight((4, 8))], "y", transB=1)
    same(b.read(tmp_path, 4))


def test_adds_concatenations_and_pools(b, tmp_path):
    x = b.pair("x", 0.02, 0, np.int8)
    a = b.pair(b.put("Conv", [x, b.weight((4, 3, 1, 1))]), 0.015, 120)
    c = b.pair(b.put("Conv", [x, b.weight((4, 3, 1, 1))]), 0.03, 90)
    total = b.pair(b.put("Add", [a, c]), 0.03)
    whole = b.pair(b.put("Concat", [a, c, total], axis=1), 0.03, 110)
    pooled = b.put("MaxPool", [whole], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    mean = b.put("AveragePool", [pooled], kernel_shape=[2, 2], pads=[1, 0, 0, 1])
    head(b, b.pair(mean, 0.02, 100), 12)
    found = b.read(tmp_path, 4)
    kinds = [type(op) for op in found.program.ops]
    assert kinds.count(Add) == 1
    assert kinds.count(MaxPool) == 1
    assert kinds.count(AvgPool) == 2
    same(found)


@pytest.mark.parametrize("quantized", [False, True], ids=["layer in floats", "codes"])
def test_softmax_at_the_end_is_an_island(b, tmp_path, quantized):
    x = b.put("Flatten", [b.pair("x")], axis=1)
    y = b.put("Gemm", [x, b.weight((4, 192))], transB=1)
    b.put("Softmax", [b.pair(y, 0.05) if quantized else y], "y", axis=-1)
    found = b.read(tmp_path, 4)
    assert isinstance(found.program.ops[-1], Island)
    total = Simulation(found.program)(torch.from_numpy(images()))
    torch.testing.assert_close(total.sum(1), torch.ones(8))
    assert agreement(found, images()).logits < 1e-2


def test_notes_say_what_is_rounded(b, tmp_path):
    bias = b.const(RNG.normal(0, 1, 6).astype(np.float32))
    head(b, b.pair(b.put("Conv", [b.pair("x"), b.weight((6, 3, 3, 3)), bias])), 6)
    found = b.read(tmp_path, 4)
    assert "rounded once" in found.notes[0]
    assert "1 biases are floats" in found.notes[1]


def refused(b, tmp_path, match, classes=4, error=Unsupported):
    with pytest.raises(error, match=match):
        b.read(tmp_path, classes)


def test_refuses_weights_in_floats(b, tmp_path):
    w = b.const(RNG.normal(0, 1, (6, 3, 3, 3)).astype(np.float32))
    head(b, b.pair(b.put("Conv", [b.pair("x"), w])), 6)
    refused(b, tmp_path, r"file\.onnx: node 'conv_2' \(Conv\): its weights 'c0' are not quantized")


def test_refuses_scales_along_the_inputs(b, tmp_path):
    head(b, b.pair(b.put("Conv", [b.pair("x"), b.weight((6, 3, 3, 3), axis=1)])), 6)
    refused(b, tmp_path, r"node 'conv_3' .* another axis than the outputs")


def test_refuses_what_no_quantizer_stands_behind(b, tmp_path):
    y = b.put("Conv", [b.pair("x"), b.weight((6, 3, 3, 3))])
    y = b.put("Conv", [y, b.weight((6, 6, 1, 1))])
    head(b, b.pair(y), 6)
    refused(b, tmp_path, r"node 'conv_5' .* reads 'n3', which is not quantized")


def test_refuses_codes_that_are_read_otherwise(b, tmp_path):
    x = b.pair("x")
    b.stored["other"] = np.float32(0.5)
    b.nodes[-1] = ("DequantizeLinear", ["t0.q", "other", "t0.z"], [x], {})
    head(b, b.pair(b.put("Conv", [x, b.weight((6, 3, 3, 3))])), 6)
    refused(b, tmp_path, r"node 'dequantizelinear_1' .* another scale or zero point")


def test_refuses_sixteen_bits(b, tmp_path):
    head(b, b.pair(b.put("Conv", [b.pair("x", kind=np.uint16), b.weight((6, 3, 3, 3))])), 6)
    with pytest.raises(Unsupported, match=r"quantizelinear_0.*type uint16"):
        b.read(tmp_path, 4, opset=21)


def test_refuses_products_of_other_ranks(b, tmp_path):
    x = b.pair("x")
    a = b.pair(b.put("Conv", [x, b.weight((8, 3, 1, 1))]))
    mean = b.pair(b.put("GlobalAveragePool", [a]))
    flat = b.pair(b.put("Flatten", [mean], axis=1))
    head(b, b.pair(b.put("Mul", [a, flat])), 8)
    refused(b, tmp_path, r"node 'mul_\d+' \(Mul\): multiplies .* of \[4, 2\] directions")


@pytest.mark.parametrize(
    ("order", "said"),
    [([1, 0, 2, 3], "images among them"), (None, "images among them")],
)
def test_refuses_orders_that_move_images(b, tmp_path, order, said):
    x = b.pair(b.put("Conv", [b.pair("x"), b.weight((6, 3, 1, 1))]))
    turned = b.put("Transpose", [x], **({"perm": order} if order else {}))
    head(b, b.pair(turned), 8)
    refused(b, tmp_path, said)


def test_refuses_shapes_that_mix_images(b, tmp_path):
    x = b.pair(b.put("Conv", [b.pair("x"), b.weight((6, 3, 1, 1))]))
    mixed = b.put("Reshape", [x, b.const(np.array([-1, 3, 8, 8]))])
    head(b, b.pair(mixed), 3)
    refused(b, tmp_path, "for each image")


def test_refuses_convolutions_of_other_than_images(b, tmp_path):
    x = b.pair(b.put("Conv", [b.pair("x"), b.weight((6, 3, 1, 1))]))
    x = b.put("Reshape", [x, b.const(np.array([0, 2, 3, 8, 8]))])
    whole = b.put("Concat", [b.pair(x), b.pair(x)], axis=1)
    flat = b.put("Flatten", [b.pair(whole)], axis=1)
    b.put("Gemm", [flat, b.weight((4, 768))], "y", transB=1)
    refused(b, tmp_path, r"\(2, 3, 8, 8\)")


def test_refuses_accumulators_beyond_int32(b, tmp_path):
    bias = b.const(np.full(6, 1e9, np.float32))
    head(b, b.pair(b.put("Conv", [b.pair("x"), b.weight((6, 3, 3, 3)), bias])), 6)
    refused(b, tmp_path, r"node 'conv_3' .* too large for int32")


def test_refuses_a_network_that_is_not_quantized(b, tmp_path):
    b.put("Flatten", ["x"], "y")
    refused(b, tmp_path, r"file\.onnx: is not quantized", classes=192)


def test_refuses_an_input_that_is_changed_first(b, tmp_path):
    x = b.put("Mul", ["x", b.const(np.float32(2))])
    head(b, b.pair(b.put("Conv", [b.pair(x), b.weight((6, 3, 3, 3))])), 6)
    refused(b, tmp_path, r"node 'mul_0'")


def test_sizes_that_are_open_are_asked_for(b, tmp_path):
    head(b, b.pair(b.put("Conv", [b.pair("x"), b.weight((6, 3, 3, 3))])), 6)
    with pytest.raises(BadInput, match=r"leaves the size of images open"):
        b.read(tmp_path, 4, shape=("N", 3, "H", "W"))
    assert read(tmp_path / "file.onnx", size=(8, 8)).program.shape == (3, 8, 8)
