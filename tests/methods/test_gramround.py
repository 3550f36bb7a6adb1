"""Integer least squares: moments against images, and the searches against every code."""

import pytest
import torch
from torch import nn

from quantbench.calibration.layer_moments import gram, moments
from quantbench.calibration.memory import Activations
from quantbench.conformance import check
from quantbench.errors import BadInput, Unsupported
from quantbench.methods.adaround import AdaRound
from quantbench.methods.gramround import GramRound
from quantbench.methods.nearest import Nearest
from quantbench.network.hooks import capture_input
from quantbench.network.network import Network
from quantbench.quantization.method import Log, quantize
from quantbench.quantization.quantized import Quantized
from quantbench.quantization.scheme import Grid, Scheme
from tests.helpers.small import small

W2 = Scheme(Grid(2, per_channel=True))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.slow
def test_it_conforms_with_biases():
    check(GramRound(width=1, moves=2, bias=True))


LAYERS = {
    "3x3": nn.Conv2d(4, 6, 3, padding=1),
    "stride": nn.Conv2d(4, 6, 3, padding=(0, 1), stride=(2, 1)),
    "same": nn.Conv2d(4, 6, (2, 3), padding="same", dilation=(1, 2)),
    "groups": nn.Conv2d(4, 6, 3, padding=1, groups=2),
    "1x1": nn.Conv2d(4, 6, 1, stride=2),
    "5x5": nn.Conv2d(4, 6, 5, padding=2),
    "tall": nn.Conv2d(4, 6, (6, 2)),
    "depthwise": nn.Conv2d(4, 4, 3, padding=1, groups=4),
    "stride and dilation": nn.Conv2d(4, 6, 3, padding=3, stride=2, dilation=3),
    "linear": nn.Linear(8, 6),
    "linear on images": nn.Linear(8, 6),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_moments_are_those_of_the_images(layer):
    shape = (70, 4, 7, 8) if isinstance(layer, nn.Conv2d) else (70, 3, layer.in_features)
    if layer is LAYERS["linear on images"]:
        shape = (70, 5, 3, 8)
    x, x_hat = (torch.randn(shape, generator=rng(i)) for i in (0, 1))
    (quant,) = Quantized(Network.of(nn.Sequential(layer, nn.Flatten()), x[:2]), W2).layers()
    target = quant.run(x, quant.original)
    kept_x, kept_target = Activations(70, x_hat), Activations(70, target)
    kept_x.append(x_hat)
    kept_target.append(target)
    m = moments(quant, kept_x, kept_target)
    axis = 1 if isinstance(layer, nn.Conv2d) else -1
    for scale in (0.0, 0.3):
        d = scale * torch.randn(quant.original.shape, generator=rng(2))
        error = quant.run(x_hat, quant.original + d) - target
        assert m.error(d.view_as(m.r)) == pytest.approx(
            float(error.square().sum(axis).mean()), rel=1e-4
        )
        best = error - error.mean(
            [i for i in range(error.dim()) if i != axis % error.dim()], keepdim=True
        )
        assert m.centred().error(d.view_as(m.r)) == pytest.approx(
            float(best.square().sum(axis).mean()), rel=1e-4
        )
        moved = quant.op(x_hat, quant.original + d, quant.bias + m.bias(d.view_as(m.r))) - target
        assert (
            moved.mean([i for i in range(error.dim()) if i != axis % error.dim()]).abs().max()
            < 1e-4
        )
    torch.testing.assert_close(gram(quant, x_hat), m.h.float())


# ---- The searches
# ----------------------------------------------------------------------------------


# ---- The method
# ------------------------------------------------------------------------------------


def total(method, net, x, scheme=W2):
    log = Log()
    q = quantize(method, net, x, scheme, log=log)
    return sum(v for k, v in log.numbers.items() if k.startswith("objective/")), q


def test_its_objective_is_the_one_of_the_images_and_beats_the_others():
    net, x = small()
    found, q = total(GramRound(), net, x)
    direct = 0.0
    for layer in q.layers():
        (seen,), (seen_hat,) = (
            capture_input(model, layer.info.name, (x,)) for model in (net.model, q.model)
        )
        error = layer.run(seen_hat, layer.weight) - layer.run(seen, layer.original)
        direct += float(error.square().sum(1).mean())
    assert found == pytest.approx(direct, rel=1e-3)
    assert found < total(GramRound(width=1, moves=0), net, x)[0]
    assert found < total(AdaRound(iterations=60, lr=0.05, relu=False), net, x)[0]


def test_error_at_the_output_against_nearest():
    net, x = small()
    errors = [
        float((total(m, net, x)[1].fake()(x) - net.model(x)).square().mean())
        for m in (GramRound(), Nearest())
    ]
    assert errors[0] < 0.5 * errors[1]  # found: 0.3


def test_fitted_steps_and_biases_lower_the_objective():
    net, x = small()
    plain, steps, biases = (
        total(GramRound(width=16, moves=50, asymmetric=False, **more), net, x)[0]
        for more in ({}, {"refits": 2}, {"bias": True})
    )
    assert steps < 0.98 * plain  # found: 0.8
    assert biases < plain


def test_codes_that_are_no_neighbours_are_counted_and_can_be_ruled_out():
    net, x = small()
    wide, narrow = Log(), Log()
    quantize(GramRound(), net, x, W2, log=wide)
    q = quantize(GramRound(neighbours=True), net, x, W2, log=narrow)
    away = [
        [v for k, v in log.numbers.items() if k.startswith("no_neighbours/")]
        for log in (wide, narrow)
    ]
    assert max(away[0]) > 0
    assert max(away[1]) == 0
    for layer in q.layers():
        low, high = layer.qparams.bracket(layer.original)
        assert ((layer.codes == low) | (layer.codes == high)).all()
    objectives = [
        sum(v for k, v in log.numbers.items() if k.startswith("objective/"))
        for log in (wide, narrow)
    ]
    assert objectives[0] < objectives[1]  # more to choose from


def gptq(w, h, scale, zero, low, high):
    """Codes by GPTQ as its paper has it: each column's error is spread over those that follow."""
    order = h.diagonal().argsort(descending=True)
    w = w.double()[:, order].clone()
    spread = torch.linalg.cholesky(torch.linalg.inv(h[order][:, order]), upper=True)
    codes = torch.empty_like(w)
    for j in range(w.shape[1]):
        codes[:, j] = (w[:, j] / scale + zero).round().clamp(low, high)
        error = (w[:, j] - (codes[:, j] - zero) * scale) / spread[j, j]
        w[:, j:] -= error.unsqueeze(1) * spread[j, j:]
    return torch.empty_like(codes).index_copy_(1, order, codes)


def test_without_descent_a_beam_of_one_is_gptq():
    x = torch.randn(300, 24, generator=rng()) @ torch.randn(24, 24, generator=rng(1))
    linear = nn.Linear(24, 10)
    linear.weight.data = torch.randn(10, 24, generator=rng(2))
    net = Network.of(nn.Sequential(linear), x[:2])
    found, q = total(GramRound(width=1, moves=0, descent=False, damping=0.01), net, x)
    (layer,) = q.layers()
    h = x.double().mT @ x.double() / len(x)
    h += 0.01 * torch.diag(h.diagonal())
    scale, zero = (
        torch.as_tensor(t).double().expand(10, 1).flatten()
        for t in (layer.qparams.scale, layer.qparams.zero)
    )
    levels = layer.qparams.levels
    codes = gptq(linear.weight.data, h, scale, zero, levels[0], levels[-1])
    assert torch.equal(layer.codes.double(), codes)
    assert total(GramRound(width=1, moves=0, damping=0.01), net, x)[0] < found


def test_one_step_for_the_whole_tensor_stays_one():
    net, x = small()
    _, q = total(GramRound(width=4, moves=5, refits=1), net, x, Scheme(Grid(2)))
    assert all(layer.qparams.scale.numel() == 1 for layer in q.layers())


def test_what_it_is_not_for():
    net, x = small()
    with pytest.raises(Unsupported, match="uniform grids"):
        quantize(GramRound(), net, x, Scheme(Grid(3, kind="apot")))
    with pytest.raises(BadInput, match="width is at least 1"):
        GramRound(width=0)
