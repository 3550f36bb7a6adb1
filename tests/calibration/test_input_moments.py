"""Second moments lag by lag, against the columns of every output position."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from quantbench.calibration import input_moments
from quantbench.calibration.columns import columns
from quantbench.calibration.input_moments import by_columns, second_moments
from quantbench.network.tracing import LayerInfo
from quantbench.quantization.layers import QuantLayer

PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


def quantized(layer, macs=1):
    """A layer; the more operations it claims, the fewer examples are worked on at a time."""
    kind = "linear" if isinstance(layer, nn.Linear) else "conv"
    return QuantLayer(layer, LayerInfo("layer", kind, tuple(layer.weight.shape), macs), None)


def whole_numbers(*shape):
    """Small ones, whose products and sums are exact in float32."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(-4, 5, shape, generator=rng).float()
    return x.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else x


@st.composite
def geometries(draw):
    """A convolution of any geometry, and the height and width of its input."""
    groups, per = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    dilation, size = draw(PAIRS), draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    stride, padding = draw(PAIRS), draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    if draw(st.booleans()):
        stride, padding = 1, draw(st.sampled_from(("same", "valid")))
    room = (0, 0) if padding == "valid" else padding
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    if padding != "same":
        assume(all(s + 2 * p >= r for s, p, r in zip(size, room, reach, strict=True)))
    shape = (groups * per, 2 * groups, kernel)
    return nn.Conv2d(*shape, stride, padding, dilation, groups), size


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@given(geometries(), st.sampled_from([1, 10**6, 10**9]))
def test_moments_lag_by_lag_are_those_of_all_columns(geometry, macs):
    conv, size = geometry
    layer, x = quantized(conv, macs), whole_numbers(5, conv.in_channels, *size)
    found, mean = second_moments(layer, x)
    h, want = by_columns(layer, x)
    torch.testing.assert_close(found, h, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(mean, want, rtol=1e-12, atol=1e-12)


def test_moments_of_a_linear_layer_are_those_of_its_rows():
    layer, x = quantized(nn.Linear(7, 2)), whole_numbers(3, 4, 7)
    for found, want in zip(second_moments(layer, x), by_columns(layer, x), strict=True):
        torch.testing.assert_close(found, want, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@given(geometries())
def test_columns_are_what_the_weights_are_multiplied_with(geometry):
    conv, size = geometry
    layer, x = quantized(conv), whole_numbers(2, conv.in_channels, *size)
    w = layer.original.reshape(layer.groups, -1, layer.original[0].numel())
    got = torch.einsum("gok,ngkp->ngop", w, columns(layer, x)).flatten(1, 2)
    want = layer.run(x, layer.original) - layer.bias.reshape(-1, 1, 1)
    torch.testing.assert_close(got, want.flatten(2), rtol=1e-4, atol=1e-4)


def test_a_kernel_of_three_rows_takes_three_products(monkeypatch):
    calls = []
    product = input_moments._product

    def counted(x, y, first, last, *, symmetric):
        calls.append(last - first)
        return product(x, y, first, last, symmetric=symmetric)

    monkeypatch.setattr(input_moments, "_product", counted)
    second_moments(quantized(nn.Conv2d(2, 2, 3, padding=1)), whole_numbers(1, 2, 40, 4))
    whole = [n for n in calls if n > 2]
    assert len(whole) == 3  # one for each lag
    assert sum(n for n in calls if 0 < n <= 2) <= 10  # rows at the border
