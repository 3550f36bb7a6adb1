"""What stays in floats is seen when it is damaged in a file; inputs of other kinds are named."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import quantbench as qb
from quantbench.errors import BadInput
from quantbench.integer.lowering.lower import executable

X = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def quantized():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)
    net = qb.Network.of(nn.Sequential(*layers).eval(), X[:2])
    return qb.quantize(qb.method("nearest"), net, X, qb.scheme("w8a8"))


def test_a_damaged_weight_outside_all_layers_is_seen(quantized, tmp_path):
    qb.save(quantized, str(tmp_path))  # as text, too
    assert qb.load(str(tmp_path), quantized.net, quantized.scheme).digest == quantized.digest
    path = tmp_path / "quantized.safetensors"
    tensors = load_file(path)
    tensors["float:1.weight"][2] += 0.25
    save_file(tensors, path)
    with pytest.raises(BadInput, match="do not match their digest"):
        qb.load(tmp_path, quantized.net, quantized.scheme)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (X[:, :, :6, :6], r"takes tensors \(N, \*\(3, 8, 8\)\), not \(8, 3, 6, 6\)"),
        (X[0], r"not \(3, 8, 8\)"),
        (X.numpy(), "not ndarray"),
    ],
)
def test_an_input_of_another_shape_is_named(quantized, given, told):
    with pytest.raises(BadInput, match=told):
        executable(quantized)(given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (X.tolist(), "neither float32 nor uint8"),
        (torch.full((1, 3, 8, 8), 255, dtype=torch.uint8), r"input codes 255\.\.255 are outside"),
    ],
)
def test_what_the_kernels_do_not_take_is_named(given, told):
    torch.manual_seed(0)
    net = qb.Network.of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval(), X[:2])
    four = qb.Scheme(qb.Grid(4), qb.Grid(4, symmetric=False), placement="integer")
    q = qb.quantize(qb.method("nearest"), net, X, four)
    native = qb.compile(qb.lower(q), "native")
    assert np.isfinite(native(X.numpy())).all()
    with pytest.raises(BadInput, match=told):
        native(given)
