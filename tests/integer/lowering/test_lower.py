"""From a quantized network to an integer program: quantizers, operators, exactness."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.errors import BadInput, Unsupported
from quantbench.integer.ir import Concat, Conv, Island, Lut, Pad, Select
from quantbench.integer.lowering.lower import executable, lower
from quantbench.integer.simulate import Simulation
from quantbench.methods.nearest import Nearest
from quantbench.models.cifar_resnet import CifarResNet
from quantbench.models.googlenet import Inception
from quantbench.models.mobilenet import DepthwiseSeparable, MobileNetV1
from quantbench.network.modules import ChannelClamp
from quantbench.network.network import Network
from quantbench.quantization.method import quantize
from quantbench.quantization.quantized import Quantized
from quantbench.quantization.scheme import Grid, Scheme
from tests.helpers.lowered import W4A4, W8A8, exact, follows_fake, images, kinds, made, randomize


@pytest.mark.parametrize("scheme", [W8A8, W4A4], ids=str)
def test_cifar_resnet(scheme: Scheme) -> None:
    q = made(CifarResNet(14), scheme, (3, 16, 16))
    program = exact(q)
    # 13 convolutions, 6 with an add, and the linear layer; two option-A shortcuts: subsampling and
    # padding each
    assert kinds(program) == {"Conv": 8, "Conv+add": 6, "Pad": 4, "AvgPool": 1, "Flatten": 1}
    assert {op.name for op in program.ops if isinstance(op, Conv)} == {
        info.name for info in q.net.layers
    }
    follows_fake(q, program)


def test_module_names_and_blocks_survive_placement() -> None:
    q = made(CifarResNet(8), W8A8, (3, 16, 16))
    names = dict(q.model.named_modules())
    assert {
        "conv1",
        "layer1.0",
        "layer1.0.conv1",
        "layer3.0.relu2",
        "layer2.0.shortcut",
        "linear",
    } <= names.keys()
    assert {"relu_act", "layer1.0.relu1_act", "layer1.0.relu2_act", "avgpool_act"} <= set(
        q.act_quants()
    )
    assert "layer1.0.conv2_act" not in names
    block = q.model.get_submodule("layer1.0")
    assert block(torch.rand(1, 16, 16, 16)).shape == (1, 16, 16, 16)


def test_quantizers_off_leave_the_network_as_it_was() -> None:
    net = Network.of(randomize(CifarResNet(8)), images(1, 3, 16, 16))
    q = Quantized(net, W8A8)
    x = images(3, 3, 16, 16)
    assert torch.equal(q.model(x), net.model(x))


def test_option_a_shortcut_fills_with_the_zero_point() -> None:
    q = made(CifarResNet(8), W8A8, (3, 16, 16))
    program = lower(q)
    pads = [op for op in program.ops if isinstance(op, Pad)]
    assert [op.stride for op in pads] == [(2, 2), (1, 1)] * 2
    assert pads[1].pads == (8, 8, 0, 0, 0, 0)
    tensor = Simulation(program).codes(images(1, 3, 16, 16))[pads[1].output]
    assert pads[1].out is not None
    assert (tensor[:, :8] == pads[1].out.zero).all()


def test_inception_branches_are_made_in_the_formats_they_are_joined_in() -> None:
    stem = (
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.LocalResponseNorm(5, 1e-2),
        nn.MaxPool2d(3, 2, ceil_mode=True),
    )
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(18, 5))
    model = nn.Sequential(*stem, Inception(8, 4, 4, 6, 2, 4, 4), *head)
    q = made(model, shape=(3, 15, 15))
    program = exact(q)
    assert kinds(program) == {
        "Conv": 8,
        "LRN": 1,
        "MaxPool": 2,
        "Concat": 1,
        "AvgPool": 1,
        "Flatten": 1,
    }
    (concat,) = (op for op in program.ops if isinstance(op, Concat))
    assert {program.formats[i] for i in concat.inputs} == {concat.out}  # so that joining copies
    follows_fake(q, program)


def test_mobilenet_padding_and_relu6() -> None:
    q = made(
        nn.Sequential(
            DepthwiseSeparable(3, 8, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
        )
    )
    program = exact(q)
    depthwise = program.ops[0]
    assert isinstance(depthwise, Conv)
    assert (depthwise.pads, depthwise.groups) == ((0, 0, 1, 1), 3)
    # ZeroPad2d went into the convolution
    assert kinds(program) == {"Conv": 3, "AvgPool": 1, "Flatten": 1}


def test_relu6_ceiling_is_the_code_of_six() -> None:
    scheme = replace(W8A8, acts=Grid(8, symmetric=False, range="minmax"))
    q = made(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU6(), nn.Conv2d(4, 4, 1)), scheme)
    first = lower(q).ops[0]
    assert isinstance(first, Conv)
    assert first.out is not None
    six = min(255, round(6 / first.out.scale) + first.out.zero)
    assert set(first.hi.tolist()) == {six}
    assert set(first.lo.tolist()) == {first.out.zero}


class Spellings(nn.Module):
    """Functions and methods, not modules; a ReLU used twice; an add of two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Conv2d(3, 8, 1),
            nn.Conv2d(16, 8, 1),
        )
        self.relu, self.last = nn.ReLU(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.a(x) + self.b(x))
        z = torch.cat([F.max_pool2d(y, 2), F.avg_pool2d(y, 2)], 1)
        z = F.hardswish(self.c(self.relu(z)))
        return self.last(z.mean([2, 3]))


@pytest.mark.parametrize("scheme", [W8A8, W4A4], ids=str)
def test_functions_methods_and_reused_modules(scheme: Scheme) -> None:
    q = made(Spellings(), scheme)
    program = exact(q)
    assert kinds(program) == {
        "Conv": 3,
        "Conv+add": 1,
        "MaxPool": 1,
        "AvgPool": 2,
        "Concat": 1,
        "Lut": 2,
    }
    # 4-bit operands have a coarse accumulator: its half step, by which the bias is rounded, is a
    # sixth of the 8-bit step in front of the table.
    follows_fake(q, program, share=0.01 if scheme is W8A8 else 0.3)


def test_table_gets_eight_bits_however_few_the_scheme_has() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.SiLU(), nn.Conv2d(4, 4, 1))
    program = lower(made(model, replace(W4A4, first_last_bits=None)))
    before, table = program.ops[:2]
    assert isinstance(table, Lut)
    assert before.out is not None
    assert table.out is not None
    assert before.out.hi - before.out.lo == 255
    assert table.out.hi - table.out.lo == 15


class Gate(nn.Module):
    """Squeeze and excitation of what was normalized in groups, which has no integer form."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)
        self.norm = nn.GroupNorm(2, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv(x))
        return self.last(torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True))) * self.norm(y))


def test_what_has_no_integer_form_runs_in_floats_and_says_why() -> None:
    q = made(Gate())
    program = exact(q, n=3)  # another batch size than the sample's
    (island,) = (op for op in program.ops if isinstance(op, Island))
    assert island.reason == "no integer form of it is known"
    follows_fake(q, program)


def test_asymmetric_weights_keep_their_bits() -> None:
    for bits in (3, 4, 8):
        scheme = replace(
            W8A8, weights=Grid(bits, symmetric=False, per_channel=True, range="minmax")
        )
        q = made(
            nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(600, 4)), scheme
        )
        program = exact(q)
        for op, layer in zip(
            (op for op in program.ops if isinstance(op, Conv)), q.layers(), strict=True
        ):
            assert len(np.unique(op.weight)) <= 2**bits
            assert op.weight_bits == bits
            v = op.weight.astype(int) - op.weight_zero[:, None, None, None]
            assert layer.codes is not None
            assert layer.qparams is not None
            expected = (layer.codes - layer.qparams.zero).numpy()
            np.testing.assert_array_equal(v.reshape(expected.shape), expected)
        assert any((op.weight_zero != 0).any() for op in program.ops if isinstance(op, Conv))


@pytest.mark.parametrize("kind", ["apot", "pot"])
def test_grids_that_are_not_uniform(kind: str) -> None:
    scheme = replace(W8A8, weights=Grid(4, kind=kind, range="minmax"))
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)
    )
    q = made(model, scheme)
    for act in list(q.act_quants().values())[1:]:
        act.grid = replace(act.grid, kind=kind, bits=3)
    q.calibrate_acts((images(16, 3, 12, 12),))
    program = exact(q)
    table = next(op for op in program.ops if isinstance(op, Lut))
    assert table.out is not None
    levels = set(q.act_quants()["_1_act"].levels)
    codes = set(Simulation(program).codes(images(2, 3, 12, 12))[table.output].unique().tolist())
    assert codes <= levels
    assert len(codes) > 2
    # rounded twice: to a fine uniform grid, then to the nearest level
    follows_fake(q, program, share=0.05)


def test_dead_channel_with_a_large_bias_fits() -> None:
    model = randomize(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1)))
    conv = model[0]
    assert isinstance(conv, nn.Conv2d)
    conv.weight.data[1] *= 1e-12
    conv.bias.data[1] = 3.0  # 10^13 steps of its weights' scale
    x = images(16, 3, 12, 12)
    q = quantize(Nearest(), Network.of(model, x[:1]), x, W8A8)
    program = exact(q)
    y = Simulation(program).codes(x)[program.ops[0].output]
    f = program.ops[0].out
    assert f is not None
    assert (y[:, 1] == round(3.0 / f.scale) + f.zero).all()


def test_dead_channel_whose_step_is_next_to_nothing_fits() -> None:
    model = randomize(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1)))
    conv = model[0]
    assert isinstance(conv, nn.Conv2d)
    conv.weight.data[1] *= 1e-30
    conv.bias.data[1] = 1e-17  # of what training has driven to zero
    x = images(16, 3, 12, 12)
    q = quantize(Nearest(), Network.of(model, x[:1]), x, W8A8)
    program = exact(q)
    f = program.ops[0].out
    assert f is not None
    assert (Simulation(program).codes(x)[program.ops[0].output][:, 1] == f.zero).all()


class Halves(nn.Module):
    """A unit of ShuffleNetV2, its halves taken in one of torch's spellings."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.spelling, self.conv, self.shuffle = spelling, nn.Conv2d(6, 6, 1), nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        match self.spelling:
            case "slices":
                first, second = x[:, :6], x[:, 6:]
            case "chunk":
                first, second = x.chunk(2, 1)[0], x.chunk(2, dim=1)[1]
            case "split":
                parts = torch.split(x, [6, 6], dim=-3)
                first, second = parts[0], parts[1]
            case _:
                first, second = x[:, 1::2], x[:, ::2]
        joined = torch.cat([first, self.conv(second)], 1)
        if self.spelling == "slices":
            return self.shuffle(joined)
        return F.channel_shuffle(joined, 2)


@pytest.mark.parametrize("spelling", ["slices", "chunk", "split", "steps"])
def test_halves_and_shuffles_choose_channels(spelling: str) -> None:
    q = made(nn.Sequential(nn.Conv2d(3, 12, 3), Halves(spelling), nn.Conv2d(12, 2, 1)))
    program = exact(q)
    assert kinds(program) == {"Conv": 3, "Select": 3, "Concat": 1}
    first, second, shuffled = (op.channels for op in program.ops if isinstance(op, Select))
    halves = (range(1, 12, 2), range(0, 12, 2)) if spelling == "steps" else (range(6), range(6, 12))
    assert (first, second) == tuple(map(tuple, halves))
    assert shuffled == tuple(c for pair in zip(range(6), range(6, 12), strict=True) for c in pair)
    follows_fake(q, program)


def test_channels_that_all_stay_are_no_operator_and_other_parts_are_turned_for() -> None:
    class Whole(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :]

    class Rows(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.chunk(2, 2)[0]

    whole = exact(made(nn.Sequential(nn.Conv2d(3, 4, 3), Whole(), nn.Conv2d(4, 2, 1))))
    assert kinds(whole) == {"Conv": 2}
    rows = exact(made(nn.Sequential(nn.Conv2d(3, 4, 3), Rows(), nn.Conv2d(4, 2, 1))))
    assert kinds(rows) == {"Conv": 2, "Rearrange": 2, "Select": 1}


def test_bounds_per_channel() -> None:
    low, high = torch.tensor([0.0, -0.5, 0.0, 0.1]), torch.tensor([0.5, 0.4, 99.0, 0.7])
    model = nn.Sequential(nn.Conv2d(3, 4, 3), ChannelClamp(low, high), nn.Conv2d(4, 4, 1))
    q = made(model)
    program = exact(q)
    first = program.ops[0]
    assert isinstance(first, Conv)
    assert first.out is not None
    s, z = first.out.scale, first.out.zero
    assert first.lo.tolist() == [round(float(v) / s) + z for v in low]
    assert first.hi.tolist() == [
        round(0.5 / s) + z,
        round(0.4 / s) + z,
        first.out.hi,
        round(0.7 / s) + z,
    ]
    follows_fake(q, program)


class Positions(nn.Module):
    """Gives (N, positions, channels), as a detector's neck does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).flatten(2).mT


def test_an_output_of_positions_is_an_island() -> None:
    q = made(Positions())
    program = exact(q)
    assert kinds(program)["Island"] == 1
    assert executable(q)(q.net.sample[0]).shape == q.net.model(*q.net.sample).shape


def test_bounds_per_channel_behind_anything_but_a_layer_are_an_island() -> None:
    clamp = ChannelClamp(torch.zeros(4), torch.full((4,), 0.3))
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(2), clamp, nn.Conv2d(4, 4, 1))
    (island,) = (op for op in exact(made(model)).ops if isinstance(op, Island))
    assert "do not directly follow a layer" in island.reason


def test_what_cannot_be_lowered_says_why() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))
    with pytest.raises(Unsupported, match="placement='integer'"):
        lower(made(model, replace(W8A8, placement="inputs")))
    with pytest.raises(Unsupported, match="no activation bits"):
        made(model, replace(W8A8, acts=None))
    q = made(model)
    next(iter(q.act_quants().values())).levels = ()
    with pytest.raises(BadInput, match="calibrate"):
        lower(q)


class Branch(nn.Module):
    """Its forward depends on a value."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if x.sum() > -1e9 else x


class ChangedView(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        z = y.view(y.shape)
        F.relu_(y)
        return self.b(z)


class ChangedInPlace(ChangedView):
    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        F.relu_(y)
        return self.b(y)


@pytest.mark.parametrize("make", [ChangedView, ChangedInPlace])
def test_a_tensor_changed_in_place_is_what_the_change_made_of_it(make: type[nn.Module]) -> None:
    program = exact(made(make()))
    assert kinds(program) == {"Conv": 2}


def test_a_module_that_depends_on_values_is_an_island_with_its_reason() -> None:
    program = exact(made(nn.Sequential(nn.Conv2d(3, 3, 1), Branch(), nn.Conv2d(3, 4, 1))))
    assert kinds(program) == {"Conv": 2, "Island": 1}
    (island,) = (op for op in program.ops if isinstance(op, Island))
    assert island.reason == "Branch: what it does depends on the values of a tensor"


def test_a_whole_small_mobilenet() -> None:
    model = MobileNetV1(0.25, 10, stem=(32, 2), pairs=((64, 1), (128, 2), (128, 1)))
    program = exact(made(model, shape=(3, 32, 32)))
    assert kinds(program) == {"Conv": 8, "AvgPool": 1, "Flatten": 1}
