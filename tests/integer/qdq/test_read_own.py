"""Programs of our own, exported and read back: the same codes throughout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import quantbench as qb
from quantbench.errors import Unsupported
from quantbench.integer.ir import LRN, Conv, Rearrange, Resize
from quantbench.integer.simulate import Simulation

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

from onnx import numpy_helper  # noqa: E402

from quantbench.integer.qdq.read import read  # noqa: E402


class ForEachPosition(nn.Module):
    """Adds a number for each row and column."""

    def __init__(self):
        super().__init__()
        self.numbers = nn.Parameter(torch.rand(6, 6, generator=torch.Generator().manual_seed(1)))

    def forward(self, x):
        return x + self.numbers


NETWORKS = {
    "lrn": (lambda: [nn.ReLU(), nn.LocalResponseNorm(5), nn.Conv2d(8, 8, 1)], LRN),
    "resize": (lambda: [nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(8, 8, 3)], Resize),
    "corners": (lambda: [nn.ReLU(), nn.UpsamplingBilinear2d((9, 5)), nn.ReLU()], Resize),
    "logits": (lambda: [nn.Conv2d(8, 4, 1), nn.Upsample((8, 8), mode="bilinear")], Resize),
    "positions": (lambda: [ForEachPosition(), nn.ReLU(), nn.Conv2d(8, 8, 1)], Rearrange),
}


def written(behind, tmp_path):
    """A program with modules behind its first convolution, images for it, and its file."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), *behind).eval()
    x = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    net = qb.Network.of(model, x[:2])
    program = qb.lower(qb.quantize(qb.method("nearest"), net, x, qb.scheme("w8a8")))
    path = tmp_path / "own.onnx"
    qb.save_onnx(program, path)
    return program, x, path


@pytest.mark.parametrize("what", NETWORKS)
def test_our_own_files_are_read_back_code_for_code(what, tmp_path):
    behind, kind = NETWORKS[what]
    program, x, path = written(behind(), tmp_path)
    again = read(path).program
    assert any(isinstance(op, kind) for op in again.ops)
    assert [isinstance(op, Conv) for op in again.ops].count(True) >= 1
    assert torch.equal(Simulation(again)(x), Simulation(program)(x))


def test_products_with_matrices_that_interpolate_nothing_are_refused(tmp_path):
    *_, path = written(NETWORKS["resize"][0](), tmp_path)
    model = onnx.load(path)
    (columns,) = (c for c in model.graph.initializer if c.name.endswith(".columns"))
    other = numpy_helper.to_array(columns) * np.float32(1.1)
    columns.CopyFrom(numpy_helper.from_array(other, columns.name))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(Unsupported, match=r"\(MatMul\): its weights .*columns' are not quantized"):
        read(path)


@pytest.mark.parametrize(("size", "beta"), [(4, 0.75), (5, 0.5)])
def test_other_local_response_normalizations_are_refused(size, beta, tmp_path):
    *_, path = written(NETWORKS["lrn"][0](), tmp_path)
    model = onnx.load(path)
    (node,) = (n for n in model.graph.node if n.op_type == "LRN")
    for a in node.attribute:
        if a.name == "size":
            a.i = size
        elif a.name == "beta":
            a.f = beta
    path.write_bytes(model.SerializeToString())
    with pytest.raises(Unsupported, match=rf"a window of {size} channels to the power of {beta}"):
        read(path)
