"""Layers of every rank, and functions per channel: right in floats, on integers, and saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.calibration.columns import columns
from quantbench.calibration.input_moments import by_columns, second_moments
from quantbench.calibration.layer_moments import weight_gradient
from quantbench.integer.ir import Conv, Island
from quantbench.integer.lowering.lower import executable, lower
from quantbench.methods.adaround import AdaRound
from quantbench.methods.nearest import Nearest
from quantbench.network.layers import TransposedConv, as_convolution, as_transposed
from quantbench.network.network import Network
from quantbench.network.tracing import LayerInfo
from quantbench.quantization.layers import QuantLayer
from quantbench.quantization.method import quantize
from quantbench.quantization.scheme import Grid, Scheme
from tests.network.test_any_network import INTEGER, RIGHT, WEIGHTS, off
from tests.network.whole_way import whole_way

SIZES = {1: (12,), 2: (7, 6), 3: (4, 5, 6)}


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def network(rank: int, *, up: bool = False, stride: int = 1) -> nn.Sequential:
    """Two layers of a rank with batch norms, one folded, a clamp of its own and a head."""
    torch.manual_seed(rank)
    conv = getattr(nn, f"ConvTranspose{rank}d" if up else f"Conv{rank}d")
    norm, pool = getattr(nn, f"BatchNorm{rank}d"), getattr(nn, f"AdaptiveAvgPool{rank}d")
    layers = [
        *(conv(4, 8, 3, stride, 1, bias=False), norm(8), nn.Hardtanh(-1.5, 2.0)),
        *(norm(8), conv(8, 8, 3, padding=1, groups=2), nn.PReLU()),
        *(pool(1), nn.Flatten(), nn.Linear(8, 5)),
    ]
    for m in layers:
        if isinstance(m, norm):
            nn.init.uniform_(m.weight, -1.5, 1.5)
            nn.init.uniform_(m.running_mean, -0.3, 0.3)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_network_of_any_rank(rank: int, up: bool, stride: int, tmp_path: Path) -> None:
    model, x = network(rank, up=up, stride=stride), noise(16, 4, *SIZES[rank])
    net = Network.of(model, x[:2])
    assert [i.kind for i in net.layers] == ["conv", "conv", "linear"]
    assert net.layers[0].shape[:2] == (8, 4)  # the output channel first
    assert set(net.batch_norm) == {"0"}  # the other has no layer before it
    right = model(x)
    for scheme in (WEIGHTS, INTEGER):
        q = quantize(Nearest(), net, x, scheme)
        assert off(q.fake()(x), right) < RIGHT
    assert off(executable(q)(x), right) < RIGHT
    islands = {op.name: op.reason for op in lower(q).ops if isinstance(op, Island)}
    odd = rank == 3 and up and stride > 1
    assert islands == ({"0": "a transposed convolution of volumes"} if odd else {})
    whole_way(q, Network.of(model, x[:2]), x, folder=tmp_path)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_an_unfolded_batch_norm_is_a_convolution_of_each_channel(rank: int) -> None:
    model, x = network(rank), noise(16, 4, *SIZES[rank])
    q = quantize(Nearest(), Network.of(model, x[:2]), x, INTEGER)
    norm = next(op for op in lower(q).ops if op.name == "3")
    assert isinstance(norm, Conv)
    assert norm.groups == 8
    gain = norm.weight.reshape(8) * norm.weight_scale
    expected = model[3].weight / (model[3].running_var + model[3].eps).sqrt()
    torch.testing.assert_close(torch.from_numpy(gain), expected.detach(), rtol=1e-5, atol=0)


@st.composite
def transposed(draw: st.DrawFn) -> nn.Module:
    """A transposed convolution of any geometry."""
    rank, groups = draw(st.integers(1, 3)), draw(st.integers(1, 2))

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    kernel, stride, dilation = each(1, 3), each(1, 3), each(1, 2)
    least = [max(0, d * (k - 1)) for d, k in zip(dilation, kernel, strict=True)]
    padding = tuple(draw(st.integers(0, m)) for m in least)
    extra = tuple(
        draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
    )
    cls = getattr(nn, f"ConvTranspose{rank}d")
    channels = 2 * groups, 3 * groups
    return cls(*channels, kernel, stride, padding, extra, groups, dilation=dilation)


@given(transposed())
@settings(deadline=None)
def test_a_transposed_convolution_is_a_convolution_of_spread_inputs(layer: nn.Module) -> None:
    rank = layer.weight.dim() - 2
    turned = as_convolution(layer.weight, layer.groups)
    assert torch.equal(as_transposed(turned, layer.groups), layer.weight)
    geometry = {
        k: getattr(layer, k) for k in ("stride", "padding", "output_padding", "dilation", "groups")
    }
    own = TransposedConv(turned, layer.bias, **geometry)
    x = torch.randint(-4, 5, (2, layer.in_channels, *(3,) * rank)).float()
    if min(layer(x).shape) < 1:
        return
    torch.testing.assert_close(own(x), layer(x))
    _as_columns(QuantLayer(own, LayerInfo("up", "conv", tuple(turned.shape), 1), None), x)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(4, 6, 3, 2, 1, dilation=2, groups=2),
        nn.Conv1d(4, 6, 4, padding="same"),
        nn.Conv3d(2, 4, (1, 2, 3), (1, 2, 1), (0, 1, 2), groups=2),
        nn.Conv3d(2, 4, 3, padding="same", dilation=(1, 2, 1)),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_columns_of_lines_and_volumes(layer: nn.Module) -> None:
    x = noise(3, layer.in_channels, *SIZES[layer.weight.dim() - 2])
    info = LayerInfo("layer", "conv", tuple(layer.weight.shape), 1)
    _as_columns(QuantLayer(layer, info, None), x)


def _as_columns(layer: QuantLayer, x: Tensor) -> None:
    """The layer is its weights times its columns; moments and gradients follow from these."""
    w = layer.original.reshape(layer.groups, -1, layer.original[0].numel())
    product = torch.einsum("gok,ngkp->ngop", w, columns(layer, x)).flatten(1, 2)
    out = layer.run(x, layer.original)
    bias = layer.bias.reshape(-1, *(1,) * (out.dim() - 2))
    torch.testing.assert_close(product, (out - bias).flatten(2), rtol=1e-4, atol=1e-4)
    for found, expected in zip(second_moments(layer, x), by_columns(layer, x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weight = layer.original.clone().requires_grad_()
    layer.run(x, weight).sin().sum().backward()
    found = weight_gradient(layer, x, layer.original, out.cos())
    torch.testing.assert_close(found, weight.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("inputs", "padding"), [(3, 0), (6, 1), (8, 0)])
def test_one_tap_that_leaves_inputs_out(inputs: int, padding: int) -> None:
    """torch's gradient of so few channels, last in memory, writes outside of its memory on AVX2."""
    conv = nn.Conv2d(inputs, 5, 1, stride=2, padding=padding)
    layer = QuantLayer(conv, LayerInfo("conv", "conv", tuple(conv.weight.shape), 1), None)
    x = noise(4, inputs, 7, 8).contiguous(memory_format=torch.channels_last)
    expected = conv(x)
    torch.testing.assert_close(layer.run(x, layer.original), expected)
    out = noise(*expected.shape).contiguous(memory_format=torch.channels_last)
    padded = nn.functional.pad(x, (padding,) * 4)[:, :, ::2, ::2].double()
    right = torch.einsum("nkhw,nchw->kc", out.double(), padded)[..., None, None].float()
    for _ in range(20):  # what was written over is seen later
        found = weight_gradient(layer, x, layer.original, out)
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-4)
        weight = layer.original.clone().requires_grad_()
        layer.run(x, weight).backward(out)
        torch.testing.assert_close(weight.grad, right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("rank", "up"), [(1, False), (2, True), (3, False)])
def test_rounding_is_learnt_at_any_rank(rank: int, up: bool) -> None:
    model, x = network(rank, up=up, stride=2), noise(32, 4, *SIZES[rank])
    net, two = Network.of(model, x[:2]), Scheme(Grid(2, per_channel=True))
    method = AdaRound(iterations=200, lr=1e-2)
    nearest, learnt = (quantize(m, net, x, two).fake()(x) for m in (Nearest(), method))
    assert off(learnt, model(x)) < off(nearest, model(x))


class Gates(nn.Module):
    """Squeeze and excitation with every padding there is, and slopes for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, padding="same")
        self.deep = nn.Conv2d(8, 8, 3, dilation=2, groups=8, padding=(2, 1))
        self.gate, self.slopes = nn.Conv2d(8, 8, 1), nn.PReLU(8, 0.2)
        self.group, self.scale = nn.GroupNorm(2, 8), nn.Parameter(torch.rand(8, 1, 1) + 0.5)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.stem(x))
        x = self.slopes(self.deep(F.pad(x, (1, 2, 0, 1))))
        x = x * torch.sigmoid(self.gate(F.silu(x.mean((2, 3), keepdim=True))))
        x = F.gelu(self.group(x)) * self.scale
        return self.fc(x.mean((2, 3)))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_gates_and_slopes_run_on_integers_and_groups_are_an_island(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Gates().eval(), noise(16, 3, 9, 8)
    q = quantize(Nearest(), Network.of(model, x[:2]), x, INTEGER)
    assert off(q.fake()(x), model(x)) < 2 * RIGHT
    assert off(executable(q)(x), model(x)) < 2 * RIGHT
    islands = {op.name: op.reason for op in lower(q).ops if isinstance(op, Island)}
    # what follows the groups is read by no layer, but by an operator that has codes
    assert islands == {"group": "no integer form of it is known"}
    whole_way(q, Network.of(model, x[:2]), x, folder=tmp_path)


class Tokens(nn.Module):
    """torch's encoder on the pixels of small images, with a mask."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=batch_first)
        self.embed, self.first = nn.Conv2d(3, 8, 2, 2), batch_first
        self.encoder, self.fc = (
            nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
            nn.Linear(8, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        hidden = torch.zeros(tokens.shape[:2], dtype=torch.bool)
        hidden[:, -1] = True
        if self.first:
            return self.fc(self.encoder(tokens, src_key_padding_mask=hidden).mean(1))
        out = self.encoder(tokens.transpose(0, 1), src_key_padding_mask=hidden)
        return self.fc(out.mean(0))


@pytest.mark.parametrize("batch_first", [False, True])
def test_attention_is_made_of_linear_layers(batch_first: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Tokens(batch_first=batch_first).eval(), noise(16, 3, 8, 8)
    net = Network.of(model, x[:2])
    assert len(net.layers) == 1 + 2 * 6 + 1  # no weight is left outside
    right = model(x)
    for scheme in (Scheme(Grid(8, per_channel=True), INTEGER.acts), INTEGER):
        q = quantize(Nearest(), net, x, scheme)
        assert off(q.fake()(x), right) < 2 * RIGHT
        whole_way(q, Network.of(model, x[:2]), x, folder=tmp_path)
    assert off(executable(q)(x), right) < 2 * RIGHT


def test_attention_with_masks_and_weights_is_torchs() -> None:
    from quantbench.network.plain.attention import Attention

    torch.manual_seed(0)
    for how in ({}, {"batch_first": True}, {"kdim": 6, "vdim": 4}, {"bias": False}):
        theirs = nn.MultiheadAttention(8, 2, **how).eval()
        ours = Attention(theirs).eval()
        n, length, first = 3, 5, theirs.batch_first
        sizes = (theirs.embed_dim, theirs.kdim, theirs.vdim)
        q, k, v = (noise(*((n, length, e) if first else (length, n, e))) for e in sizes)
        padding = torch.zeros(n, length, dtype=torch.bool)
        padding[1, 3:] = True
        causal = nn.Transformer.generate_square_subsequent_mask(length)
        masks: list[dict[str, Tensor | bool]] = [
            {},
            {"key_padding_mask": padding},
            {"attn_mask": causal},
            {"attn_mask": causal.expand(2 * n, -1, -1), "average_attn_weights": False},
            {"attn_mask": causal < 0, "need_weights": False},
        ]
        for mask in masks:
            for a, b in zip(ours(q, k, v, **mask), theirs(q, k, v, **mask), strict=True):
                assert (a is None) == (b is None)
                if a is not None:
                    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
