"""ONNX files as torch modules: the same function as ONNX Runtime's, or refused by name."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import quantbench as qb
from quantbench.errors import BadInput, Unsupported
from quantbench.integer.simulate import Simulation
from quantbench.network.onnx_files.from_onnx import from_onnx, network_from_onnx, onnx_sample
from tests.helpers.onnx_models import Mixed, export, graph, images, seeded

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnx2torch", reason="the extra onnx is not installed")

W8A8 = qb.Scheme(
    qb.Grid(8, per_channel=True, range="minmax"),
    qb.Grid(8, symmetric=False, range="minmax"),
    placement="integer",
)


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return F.hardswish(self.b(F.silu(self.a(x)))).mean((2, 3))


@pytest.fixture
def mixed(tmp_path):
    model = seeded(Mixed)
    return model, export(model, tmp_path / "mixed.onnx", images(2))


@pytest.mark.parametrize("fixed", [False, True], ids=["free", "one image"])
@pytest.mark.parametrize("opset", [13, 17, 21])
@pytest.mark.parametrize("make", [Mixed, Gated])
def test_gives_what_the_module_gave(tmp_path, make, opset, fixed):
    model, x = seeded(make), images(5)
    path = export(model, tmp_path / "m.onnx", x[:2], fixed=fixed, opset=min(opset, 17))
    if opset > 17:
        newer = onnx.version_converter.convert_version(onnx.load(path), opset)
        path.write_bytes(newer.SerializeToString())
    with torch.no_grad():
        torch.testing.assert_close(from_onnx(path)(x), model(x), rtol=1e-4, atol=1e-5)


def test_a_spelled_out_silu_is_silu_again(tmp_path):
    module = from_onnx(export(seeded(Gated), tmp_path / "g.onnx", images(2)))
    kinds = [type(m) for m in module.modules()]
    assert nn.SiLU in kinds
    assert nn.Sigmoid not in kinds


def test_from_file_to_integers_and_back(mixed, tmp_path):
    model, path = mixed
    x = images(32)
    net = qb.network(str(path))
    assert net.name == "mixed"
    quantized = qb.quantize(qb.method("nearest"), net, x, W8A8)
    program = qb.lower(quantized)
    assert not [op for op in program.ops if type(op).__name__ == "Island"]
    logits, wanted = Simulation(program)(x), model(x).detach()
    assert float((logits - wanted).norm() / wanted.norm()) < 0.1
    qb.save(quantized, tmp_path / "saved")
    again = qb.load(tmp_path / "saved", network_from_onnx(path), W8A8)
    assert again.digest == quantized.digest


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*no known blocks:UserWarning")
@pytest.mark.parametrize("name", ["nearest", "equalize", "adaround", "brecq", "gramround"])
def test_methods_take_it_as_they_take_the_module(mixed, name):
    """Whatever a method says of the torch module, it says of the file."""
    model, path = mixed
    x = images(16)
    scheme = qb.Scheme(qb.Grid(4, per_channel=True), qb.Grid(8, symmetric=False, range="minmax"))
    few = {"iterations": 4, "act_iterations": 4}

    def tried(net):
        method = qb.method(name)
        fields = {k: v for k, v in few.items() if hasattr(method, k)}
        try:
            q = qb.quantize(qb.method(name, fields), net, x, scheme)
        except (BadInput, Unsupported) as e:
            return type(e)
        return q.fake()(x).shape

    assert tried(network_from_onnx(path)) == tried(qb.Network.of(model, x[:2]))


def test_the_sample_is_the_same_each_time(mixed):
    _, path = mixed
    first = onnx_sample(path)
    assert first.shape == (2, 3, 16, 16)
    assert torch.equal(first, onnx_sample(path))


def test_sizes_that_are_open_need_a_sample(tmp_path):
    model = seeded(Gated)
    path = export(model, tmp_path / "open.onnx", images(2))
    loaded = onnx.load(path)
    loaded.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"
    path.write_bytes(loaded.SerializeToString())
    with pytest.raises(BadInput, match=r"open\.onnx: .*'images'.*\(3, \?, 16\).*give a sample"):
        from_onnx(path)
    assert from_onnx(path, images(3))(images(3)).shape == (3, 4)


def test_a_wrong_conversion_is_told_by_the_node(mixed, monkeypatch):
    """The converter is planted with a fault; the comparison with ONNX Runtime finds it."""
    import onnx2torch

    _, path = mixed
    convert = onnx2torch.convert

    def wrong(*args, **kwargs):
        made = convert(*args, **kwargs)
        pool = next(m for m in made.modules() if isinstance(m, nn.MaxPool2d))
        pool.forward = lambda x: F.avg_pool2d(x, 2)
        return made

    monkeypatch.setattr(onnx2torch, "convert", wrong)
    with pytest.raises(BadInput, match=r"differs from ONNX Runtime by .*first node.*MaxPool"):
        from_onnx(path)


def test_an_operator_without_torch_form_is_named(tmp_path):
    nodes = [("Relu", ["x"], ["a"], {}), ("GlobalLpPool", ["a"], ["b"], {"p": 2})]
    nodes.append(("Flatten", ["b"], ["y"], {}))
    path = tmp_path / "odd.onnx"
    path.write_bytes(graph(nodes, {}, out=("N", 3)).SerializeToString())
    with pytest.raises(Unsupported, match=r"odd\.onnx: node 'globallppool_1' \(GlobalLpPool\)"):
        from_onnx(path)


def test_a_quantized_file_is_sent_elsewhere(tmp_path):
    stored = {"s": np.float32(0.1), "z": np.uint8(128)}
    nodes = [("QuantizeLinear", ["x", "s", "z"], ["q"], {})]
    nodes += [("DequantizeLinear", ["q", "s", "z"], ["d"], {}), ("Flatten", ["d"], ["y"], {})]
    path = tmp_path / "q.onnx"
    path.write_bytes(graph(nodes, stored, out=("N", 192)).SerializeToString())
    with pytest.raises(Unsupported, match=r"quantized already.*quantbench onnx"):
        from_onnx(path)


@pytest.mark.parametrize("package", ["onnx2torch", "onnx", "onnxruntime"])
def test_what_is_not_installed_is_named_with_the_extra(mixed, monkeypatch, package):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == package else found(name)
    )
    with pytest.raises(Unsupported, match=rf"{package} is not installed.*quantbench\[onnx\]"):
        from_onnx(mixed[1])


RNG = np.random.default_rng(0)

CONV = {"w": RNG.normal(0, 0.3, (8, 3, 4, 3)), "b": RNG.normal(0, 0.3, 8)}

WINDOW = ("Conv", ["x", "w", "b"], ["c"], {"kernel_shape": [4, 3]})

NORM = {"g": RNG.normal(0, 1, 8), "s": np.zeros(8), "m": np.zeros(8), "v": np.ones(8)}

TOKENS = {"t": RNG.normal(0, 0.3, (8, 5)), "u": RNG.normal(0, 0.3, 5)}


def of_window(**options):
    """A file of one convolution, and what it is quantized for: the whole of it, on integers."""
    return [("Conv", ["x", "w", "b"], ["y"], {"kernel_shape": [4, 3], **options})]


SPELLINGS = {
    "same upper": (of_window(auto_pad="SAME_UPPER", strides=[2, 2]), CONV, 17),
    "same lower": (of_window(auto_pad="SAME_LOWER", strides=[2, 1]), CONV, 17),
    "same pool": (
        [WINDOW, ("MaxPool", ["c"], ["y"], {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER"})],
        CONV,
        17,
    ),
    "pool padded on one side": (
        [WINDOW, ("MaxPool", ["c"], ["y"], {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]})],
        CONV,
        17,
    ),
    "clip from above": (
        [WINDOW, ("Clip", ["c", "", "h"], ["y"], {})],
        CONV | {"h": np.array(0.3)},
        17,
    ),
    "gelu": ([WINDOW, ("Gelu", ["c"], ["y"], {})], CONV, 20),
    "mish": ([WINDOW, ("Mish", ["c"], ["y"], {})], CONV, 18),
    "an old batch norm": (
        [WINDOW, ("BatchNormalization", ["c", "g", "s", "m", "v"], ["y"], {})],
        CONV | NORM,
        8,
    ),
    "an old pad": (
        [
            ("Pad", ["x"], ["p"], {"pads": [0, 0, 1, 2, 0, 0, 3, 0], "value": 0.5}),
            ("Conv", ["p", "w", "b"], ["y"], {}),
        ],
        CONV,
        10,
    ),
    "a linear layer of tokens": (
        [
            WINDOW,
            ("Transpose", ["c"], ["r"], {"perm": [0, 2, 3, 1]}),
            ("MatMul", ["r", "t"], ["f"], {}),
            ("Add", ["u", "f"], ["y"], {}),
        ],
        CONV | TOKENS,
        17,
    ),
}


@pytest.mark.parametrize("what", SPELLINGS)
def test_spellings_of_other_exporters(tmp_path, what):
    nodes, stored, opset = SPELLINGS[what]
    stored = {k: np.asarray(v, np.float32) for k, v in stored.items()}
    model = graph(nodes, stored, out=None, opset=opset)
    shape = onnx.shape_inference.infer_shapes(model).graph.output[0].type.tensor_type.shape
    model.graph.output[0].type.tensor_type.shape.CopyFrom(shape)
    onnx.save(model, tmp_path / "other.onnx")
    x = images(8, size=8)
    net = network_from_onnx(tmp_path / "other.onnx", x[:2])
    assert len(net.layers) == 1 + ("tokens" in what)
    program = qb.lower(qb.quantize(qb.method("nearest"), net, x, W8A8))
    wanted = net.model(x)
    found = Simulation(program)(x).reshape(wanted.shape)
    assert float((found - wanted).norm() / wanted.norm()) < 0.03
