"""Networks as users write them: each is right after quantization, or refused by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from quantbench.errors import BadInput, Unsupported
from quantbench.integer.lowering.linears import linear_programs
from quantbench.integer.lowering.lower import executable, lower
from quantbench.methods.adaround import AdaRound
from quantbench.methods.bias import BFT
from quantbench.methods.nearest import Nearest
from quantbench.network.activation_functions import following_functions
from quantbench.network.network import Network
from quantbench.quantization.method import Pipeline, quantize
from quantbench.quantization.quantized import Quantized
from quantbench.quantization.scheme import Grid, Scheme
from quantbench.quantization.serialize import load, save
from tests.network.whole_way import whole_way

W = Grid(8, per_channel=True)
WEIGHTS = Scheme(W)
INTEGER = Scheme(W, Grid(8, symmetric=False, range="minmax"), placement="integer")
RIGHT = 0.02  # of the output: what 8 bits cost a network of two or three layers


def images(n: int = 16) -> Tensor:
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def cnn(*first: nn.Module, channels: int = 8) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        *first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5)
    ).eval()


def made(model: nn.Module, scheme: Scheme = WEIGHTS, x: Tensor | None = None) -> Quantized:
    x = images() if x is None else x
    return quantize(Nearest(), Network.of(model, x[:2]), x, scheme)


def off(a: Tensor, b: Tensor) -> float:
    return float(((a - b).norm() / b.norm()).detach())


class Standardized(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight / self.weight.norm(), self.bias)


class SamePadding(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (0, 1, 0, 1)), self.weight, self.bias, self.stride)


class Scaled(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 3


class NormAct(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))


class Adapter(nn.Linear):
    """A low-rank update beside the weight."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.down, self.up = nn.Linear(sizes[0], 2, bias=False), nn.Linear(2, sizes[1], bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.up(self.down(x))


class Branching(nn.Conv2d):
    """Scales what it gives where a value says so."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return 2 * y if x.mean() > 0 else y


def _hooked() -> nn.Module:
    conv = nn.Conv2d(3, 8, 3)
    conv.register_forward_hook(lambda _m, _x, y: 2 * y)
    return conv


def _pre_hooked() -> nn.Module:
    conv = nn.Conv2d(3, 8, 3)
    conv.register_forward_pre_hook(lambda _m, x: (x[0] - 0.5,))
    return conv


def _patched() -> nn.Module:
    conv = nn.Conv2d(3, 8, 3)
    conv.forward = lambda x: F.conv2d(x, conv.weight * 0.1)  # type: ignore[method-assign]
    return conv


def _adapted() -> nn.Module:
    torch.manual_seed(2)
    pool, back = nn.AdaptiveAvgPool2d(1), nn.Unflatten(1, (8, 1, 1))
    return nn.Sequential(pool, nn.Flatten(), Adapter(3, 8), back)


def _old_weight_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(nn.Conv2d(3, 8, 3))


ODD: dict[str, Callable[[], list[nn.Module]]] = {
    "a subclass that scales its weight": lambda: [Standardized(3, 8, 3)],
    "a subclass that pads": lambda: [SamePadding(3, 8, 3, stride=2)],
    "a subclass that scales its output": lambda: [Scaled(3, 8, 3)],
    "a subclass with another layer beside": lambda: [_adapted()],
    "a hook": lambda: [_hooked()],
    "a hook before": lambda: [_pre_hooked()],
    "a patched forward": lambda: [_patched()],
    "reflected padding": lambda: [nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect")],
    "a batch norm with an activation inside": lambda: [nn.Conv2d(3, 8, 3), NormAct(8)],
    "weight_norm": lambda: [parametrizations.weight_norm(nn.Conv2d(3, 8, 3))],
    "spectral_norm": lambda: [parametrizations.spectral_norm(nn.Conv2d(3, 8, 3))],
    "the older weight_norm": lambda: [_old_weight_norm()],
    "a pruning mask": lambda: [prune.l1_unstructured(nn.Conv2d(3, 8, 3), "weight", 0.5)],
}


@pytest.mark.parametrize("what", ODD)
def test_a_module_that_is_more_than_a_layer_keeps_what_it_does(what: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = cnn(*ODD[what]())
    expected = model(images()).detach()
    for scheme in (WEIGHTS, INTEGER):
        q = made(model, scheme)
        assert off(q.fake()(images()), expected) < RIGHT
        whole_way(q, Network.of(model, images(2)), images(), folder=tmp_path)
    assert off(executable(q)(images()), expected) < RIGHT
    assert torch.equal(model(images()), expected)  # the user's own is as it was


def test_a_layer_that_depends_on_values_is_refused_by_name() -> None:
    with pytest.raises(Unsupported, match=r"0 \(Branching\).*depends on the values of a tensor"):
        made(cnn(Branching(3, 8, 3)))


def test_rows_of_an_embedding_that_are_scaled_when_read(tmp_path: Path) -> None:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.fc = nn.Embedding(9, 8, max_norm=1.0), nn.Linear(8, 5)

        def forward(self, rows: Tensor) -> Tensor:
            return self.fc(self.table(rows).mean(1))

    torch.manual_seed(0)
    model, rows = Bag().eval(), torch.randint(0, 9, (16, 4))
    net, again = (Network.of(model, rows[:2], kinds=(nn.Linear, nn.Embedding)) for _ in range(2))
    assert len(net.layers) == 2
    for scheme in (WEIGHTS, Scheme(W, INTEGER.acts)):
        q = quantize(Nearest(), net, rows, scheme)
        assert off(q.fake()(rows), model(rows)) < RIGHT
        whole_way(q, again, rows, folder=tmp_path)
    assert set(linear_programs(q)) == {"fc"}
    with pytest.raises(Unsupported, match="not row numbers of a table"):
        quantize(Nearest(), net, rows, INTEGER)


class _Identity(torch.autograd.Function):
    """Gives what it got; of such a call a recording sees nothing."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x

    @staticmethod
    def backward(_: Any, *grads: Tensor) -> Tensor:
        return -grads[0]


class _Hidden(torch.autograd.Function):
    """Works where no recording sees it."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        with torch._C.DisableTorchFunction():
            return x.flip(1) + x

    @staticmethod
    def backward(_: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class Calls(nn.Module):
    """A convolution between two calls of a function."""

    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.function, self.conv = function, nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        apply = self.function.apply
        return torch.relu(apply(self.conv(apply(x)) * 2))


class Hidden(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _Hidden.apply(x) * 2


def test_functions_with_a_derivative_of_their_own_are_no_constants() -> None:
    model, x = cnn(Calls(_Identity)), images()
    q = made(model, INTEGER)
    assert all(type(op).__name__ != "Island" for op in lower(q).ops)
    assert off(q.fake()(x[3:5]), model(x[3:5])) < RIGHT
    hidden = cnn(Hidden(), nn.Conv2d(3, 8, 3))
    q = made(hidden, INTEGER)
    (island,) = (op for op in lower(q).ops if type(op).__name__ == "Island")
    assert "no call of torch's was seen to make" in island.reason
    assert off(executable(q)(x[3:5]), hidden(x[3:5])) < RIGHT
    around = cnn(Calls(_Hidden))  # a layer inside stays one of those that are quantized
    q = made(around, INTEGER)
    assert [i.name for i in q.net.layers] == ["0.conv", "3"]
    assert off(executable(q)(x[3:5]), around(x[3:5])) < RIGHT


class Optional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor, raw: Any = None) -> Tensor:
        y = self.conv(x)
        if raw is None:
            y = torch.relu(y)
        return y


class Sized(nn.Module):
    """Reshapes by numbers that follow the number of examples."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.fc = nn.Conv2d(3, 8, 3), nn.AvgPool2d(3), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pool(self.conv(x))
        return self.fc(y.view(y.size(0), -1))


class Chosen(nn.Module):
    """Chooses its forward when it is made, and is asked for its width by the module around it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.half = nn.Conv2d(4, 4, 3, padding=1), 4
        self.forward = self.split  # type: ignore[method-assign]

    def split(self, x: Tensor) -> Tensor:
        a, b = torch.split(x, [self.half, self.half], 1)
        return torch.cat([torch.relu(self.conv(a)), b], 1)


class Around(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, 8, 3), Chosen()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.stem(x))[:, : 2 * self.inner.half]


MODELS = {"optional": cnn(Optional()), "sizes": Sized().eval(), "chosen": cnn(Around())}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_graph_is_what_one_real_call_did(model: nn.Module, tmp_path: Path) -> None:
    q = made(model, INTEGER)
    whole_way(q, Network.of(model, images(2)), images(5), folder=tmp_path)
    assert all(type(op).__name__ != "Island" for op in lower(q).ops)
    for n in (1, 5):
        assert off(q.fake()(images(n)), model(images(n))) < RIGHT
        assert off(executable(q)(images(n)), model(images(n))) < RIGHT


@pytest.mark.parametrize("bias", [False, True])
def test_a_channel_and_a_layer_of_zeros(bias: bool) -> None:
    model = cnn(nn.Conv2d(3, 8, 3, bias=bias), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
    model[0].weight.data[2] = 0
    q = made(model, INTEGER)
    assert off(executable(q)(images()), model(images())) < RIGHT
    nn.init.zeros_(model[-1].weight)
    nn.init.zeros_(model[-1].bias)
    assert executable(made(model, INTEGER))(images()).abs().max() == 0


def test_a_batch_norm_over_tokens_stays_unfolded() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.norm = nn.Linear(6, 16), nn.BatchNorm1d(7)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.fc(x)).mean(1)

    x = torch.rand(16, 7, 6)
    model = Tokens().eval()
    model.norm.running_mean.normal_()
    q = made(model, x=x)
    assert not q.net.batch_norm
    assert off(q.fake()(x), model(x)) < RIGHT


def test_quantizing_inside_no_grad_learns_all_the_same() -> None:
    net = Network.of(cnn(nn.Conv2d(3, 8, 3)), images(2))
    method = AdaRound(iterations=5)
    expected = quantize(method, net, images(), WEIGHTS).digest
    with torch.no_grad():
        assert quantize(method, net, images(), WEIGHTS).digest == expected
    with torch.inference_mode():
        assert quantize(method, net, images(), WEIGHTS).digest == expected


class Routed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 5), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(x) if (x > 0.999).any() else self.a(x)


def test_a_layer_that_nothing_reaches_is_named() -> None:
    x = torch.rand(16, 8) * 0.9
    with pytest.warns(UserWarning, match="1 layers did not run on the sample.*: b"):
        Network.of(Routed().eval(), x[:2])
    with pytest.warns(UserWarning, match="did not run"):
        net = Network.of(Routed().eval(), torch.ones(2, 8))
    with pytest.warns(UserWarning, match=r"no calibration example reaches b\.act"):
        quantize(Nearest(), net, x, Scheme(W, INTEGER.acts))


def test_what_is_random_is_said_to_be_random() -> None:
    class Dropping(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(F.dropout(x))

    with pytest.raises(BadInput, match="different outputs for the same input"):
        Network.of(nn.Sequential(Dropping(8, 5)).eval(), torch.rand(2, 8))


@pytest.mark.parametrize(
    ("wrap", "advice"),
    [
        (nn.DataParallel, r"give model\.module"),
        (torch.compile, r"give model\._orig_mod"),
        (torch.jit.script, r"give the module that it was made from"),
        (lambda m: torch.export.export(m, (images(2),)), r"that it was exported from"),
    ],
)
def test_wrapped_networks_are_refused_with_the_way_out(
    wrap: Callable[[nn.Module], Any], advice: str
) -> None:
    with pytest.raises(BadInput, match=advice):
        Network.of(wrap(cnn(nn.Conv2d(3, 8, 3))), images(2))


def test_maps_keep_their_shape_on_integers() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    found = executable(made(model, INTEGER))(images())
    assert found.shape == model(images()).shape
    assert off(found, model(images())) < RIGHT


def test_a_clamp_has_its_own_bounds_in_the_objective() -> None:
    torch.manual_seed(0)
    clamped = nn.Conv2d(3, 16, 3), nn.Hardtanh(-3, 3), nn.Flatten(), nn.Linear(576, 5)
    nn.init.uniform_(clamped[0].bias, -4, 4)  # so that many values are at a bound
    net = Network.of(nn.Sequential(*clamped).eval(), images(2))
    assert (net.layers[0].activation, net.layers[0].limits) == (None, (-3.0, 3.0))
    fa = following_functions(net)["0"]
    assert torch.equal(fa(torch.tensor([[-5.0, 1.0, 5.0]])), torch.tensor([[-3.0, 1.0, 3.0]]))
    three = Scheme(Grid(3, per_channel=True))
    codes = [
        quantize(AdaRound(iterations=30, lr=1e-2, relu=relu), net, images(), three).digest
        for relu in (True, False)
    ]
    assert codes[0] != codes[1]


def test_a_clamp_that_another_reader_goes_past_is_no_activation_function() -> None:
    class Past(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            return self.b(torch.relu(y) + y)

    assert Network.of(Past().eval(), torch.rand(2, 8)).layers[0].activation is None


def test_bias_tuning_needs_classes() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 8)
    one = Network.of(nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1)).eval(), x[:2])
    tuned = Pipeline(steps=(Nearest(), BFT(images=0, epochs=1)))
    with pytest.raises(Unsupported, match="gives one number"):
        quantize(tuned, one, x, Scheme(Grid(3)))
    maps = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    net = Network.of(maps, images(2))
    plain, better = (quantize(m, net, images(), Scheme(Grid(3))) for m in (Nearest(), tuned))

    def divergence(q: Quantized) -> float:
        target, found = (m(images()).log_softmax(1) for m in (maps, q.fake()))
        return float(F.kl_div(found, target, log_target=True, reduction="batchmean").detach())

    assert divergence(better) < divergence(plain)


def test_a_saved_network_is_loaded_for_what_it_was_saved_for_alone(tmp_path: Path) -> None:
    def network(seed: int) -> Network:
        torch.manual_seed(seed)
        layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 5, 2)
        with pytest.warns(UserWarning, match=r"1 weights are multiplied outside all layers"):
            return Network.of(nn.Sequential(*layers).eval(), images(2), kinds=(nn.Conv2d,))

    net, four = network(0), Scheme(Grid(4))
    q = quantize(Nearest(), net, images(), four)
    save(q, tmp_path)
    assert torch.equal(load(tmp_path, net, four).fake()(images()), q.fake()(images()))
    with pytest.raises(BadInput, match=r"saved under another scheme than w8: .*'bits': 4"):
        load(tmp_path, net, WEIGHTS)
    with pytest.raises(BadInput, match="was saved for a network 'model' with weights of digest"):
        load(tmp_path, network(1), four)


@pytest.mark.parametrize(
    "wrong",
    [lambda: Scheme(W, W), lambda: Grid(8, range="percentile200"), lambda: Grid(8, range="lp0")],
)
def test_grids_that_cannot_be_are_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(BadInput, match=r"channel|percentile|power"):
        wrong()
