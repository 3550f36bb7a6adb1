"""What runs in floats, exported: the file computes what the program does, or is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.errors import Unsupported
from quantbench.integer.backends.onnx.file import save_onnx
from quantbench.integer.backends.onnxruntime import OnnxRuntime
from quantbench.integer.ir import Format, Island, Program, Shape
from quantbench.integer.lowering.lower import lower
from quantbench.integer.simulate import Simulation
from tests.helpers.lowered import images, made

STEPS, SHARE = 1, 0.01  # an island's last bits may take a code over the middle between two steps


def exported(program: Program, n: int) -> None:
    """Every code of the program, and its logits, as ONNX Runtime has them from the file."""
    onnxruntime = pytest.importorskip("onnxruntime")
    from quantbench.integer.backends.onnx.export import export

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        export(program, show=True).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    x = images(n, *program.shape)
    names = [o.name for o in session.get_outputs()]
    found = dict(zip(names, session.run(names, {"images": x.numpy()}), strict=True))
    right = Simulation(program).codes(x)
    for name, f in program.formats.items():
        if f is not None:
            off = np.abs(found[name].astype(int) - right[name].numpy().astype(int))
            assert off.max() <= STEPS, name
            assert (off > 0).mean() <= SHARE, name
    logits = right[program.output].flatten(1).numpy()
    np.testing.assert_allclose(found["logits"], logits, atol=0.02 * np.abs(logits).max())


class Attention(nn.Module):
    """Two tensors go in, and a third through the softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Conv2d(8, 8, 1) for _ in range(3))
        self.norm, self.scale = nn.LayerNorm(8), nn.Parameter(torch.tensor(0.4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).flatten(2) for f in (self.q, self.k, self.v))
        weights = (q.mT @ k * self.scale).softmax(-1)
        y = self.norm((v @ weights.mT).mT).mT
        return y.reshape(y.shape[0], 8, *x.shape[2:])


class Upsampled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="nearest")


INSIDE = {
    "attention": Attention,
    "group norm": lambda: nn.GroupNorm(2, 8),
    "nearest": Upsampled,
    "softmax": lambda: nn.Softmax(1),
    "windows of different sizes": lambda: nn.AdaptiveAvgPool2d((4, 7)),
    "volume": lambda: nn.Sequential(
        nn.Unflatten(1, (4, 2)), nn.ConvTranspose3d(4, 4, (1, 2, 2), (1, 2, 2)), nn.Flatten(1, 2)
    ),
}


@pytest.mark.parametrize("name", INSIDE)
def test_an_island_is_exported_with_what_surrounds_it(name: str) -> None:
    torch.manual_seed(0)
    inside: nn.Module = INSIDE[name]()
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), inside, nn.Conv2d(8, 4, 1))
    program = lower(made(model))
    assert any(isinstance(op, Island) for op in program.ops)
    for n in (1, 3):  # other numbers of images than the one that was traced
        exported(program, n)


class Levels(nn.Module):
    """A feature pyramid, of whose dictionary only one entry is read."""

    def __init__(self) -> None:
        super().__init__()
        ops = pytest.importorskip("torchvision.ops")
        self.a, self.b = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.fpn = ops.FeaturePyramidNetwork(
            [8, 8], 8, ops.feature_pyramid_network.LastLevelMaxPool()
        )
        self.heads = nn.ModuleList(nn.Conv2d(8, 4, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x).relu()
        levels = self.fpn({"a": a, "b": self.b(a).relu()})
        first, *_ = [f(level) for f, level in zip(self.heads, levels.values(), strict=True)]
        return first


def test_a_module_inside_of_which_nothing_can_be_quantized() -> None:
    q = made(Levels(), shape=(3, 16, 16))
    program = lower(q)
    x = images(4, 3, 16, 16)
    off = (Simulation(program)(x) - q.fake()(x).flatten(1)).norm() / q.fake()(x).norm()
    assert off < 0.03
    exported(program, 3)


def test_islands_one_behind_the_other_and_at_the_end() -> None:
    norms = [nn.GroupNorm(2, 8), nn.Conv2d(8, 8, 1), nn.GroupNorm(4, 8)]
    model = nn.Sequential(nn.Conv2d(3, 8, 3), *norms, nn.AvgPool2d(2), nn.Flatten(), nn.Softmax(1))
    program = lower(made(model))
    assert sum(isinstance(op, Island) for op in program.ops) == 3
    assert program.formats[program.output] is None
    exported(program, 5)


def test_4_bit_weights_and_an_island_in_one_file(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from tests.helpers.lowered import W4A4

    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Conv2d(8, 4, 1))
    program = lower(made(model, W4A4))
    save_onnx(program, tmp_path / "net.onnx", int4=True)
    onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])


def test_the_networks_modules_are_left_as_they_were() -> None:
    pytest.importorskip("onnxruntime")
    from quantbench.integer.backends.onnx.export import export

    q = made(nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Conv2d(8, 4, 1)))
    program, before = lower(q), q.model(*q.net.sample)
    export(program)
    assert not any(m.training for m in q.model.modules())
    assert torch.equal(q.model(*q.net.sample), before)


def alone(function: Callable[..., Tensor], shape: Shape = (4, 2, 3)) -> Program:
    f = Format(0.1, 100)
    op = Island(
        name="mine",
        inputs=("input",),
        output="y",
        out=f,
        function=function,
        shape=shape,
        reason="a test",
    )
    return Program(f, shape, (op,))


def counted(x: Tensor) -> Tensor:
    """The number of examples is a number to it, not the tensor's."""
    return x + torch.ones(int(x.shape[0]), 1, 1, 1)


def from_numpy(x: Tensor) -> Tensor:
    return torch.from_numpy(np.sort(x.numpy(), axis=3))


def by_number(x: Tensor) -> Tensor:
    return x + len(x)


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (counted, "ONNX Runtime refuses it, with another number of images"),
        (torch.special.bessel_j0, "torch does not export it to ONNX"),
        (from_numpy, "has shape|differs from|not depend on all of its inputs|does not export"),
        (by_number, "differs from torch's"),
    ],
)
def test_an_island_that_is_no_graph_is_refused_by_name(
    function: Callable[..., Tensor], why: str
) -> None:
    pytest.importorskip("onnxruntime")
    from quantbench.integer.backends.onnx.export import export

    with pytest.raises(Unsupported, match=f"mine runs in floats \\(a test\\), and .*({why})"):
        export(alone(function))


def test_onnx_runtime_runs_islands_as_a_backend() -> None:
    runs = OnnxRuntime(exact=True)
    if why := runs.available():
        pytest.skip(why)
    program = lower(made(nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Flatten())))
    x = images(3, *program.shape)
    got = runs.compile(program)(x.numpy())
    right = Simulation(program)(x).numpy()
    assert np.linalg.norm(got - right) < 0.02 * np.linalg.norm(right)
