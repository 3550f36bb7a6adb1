import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from quantbench.errors import BadInput, Unsupported
from quantbench.methods.adaround import AdaRound
from quantbench.methods.nearest import Nearest
from quantbench.network.hooks import capture_both, capture_input, capture_output
from quantbench.network.network import Network
from quantbench.quantization import serialize
from quantbench.quantization.layers import ActQuant
from quantbench.quantization.method import quantize
from quantbench.quantization.ranges import estimate
from quantbench.quantization.scheme import Grid, Override, Scheme

W4 = Scheme(Grid(4))
W4A8 = Scheme(Grid(4, per_channel=True), Grid(8, symmetric=False, range="minmax"))


class Residual(nn.Module):
    """What capture gets wrong: functional and in-place activations and adds, a projection."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.b = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        y = self.relu(self.bn(self.a(x)))
        z = self.b(y)
        z += y
        return self.fc(F.relu(z).mean((2, 3)))


def make(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Residual()
        model.bn.running_mean.normal_()
        model.bn.running_var.uniform_(0.5, 2)
        return model.eval(), torch.randn(16, 3, 8, 8)


def test_folding_keeps_the_output_and_learns_the_structure():
    model, x = make()
    net = Network.of(model, x[:2])
    assert torch.allclose(net.model(x), model(x), atol=1e-5)
    assert [i.name for i in net.layers] == ["a", "b", "fc"]
    assert [i.activation for i in net.layers] == ["relu", None, None]
    assert net.layer("a").macs == 3 * 4 * 9 * 64
    assert isinstance(net.model.bn, nn.Identity)
    assert torch.allclose(net.batch_norm["a"].mean, model.bn.bias)


def test_batch_norm_without_affine_is_folded_with_weight_1_and_bias_0():
    plain, x = make()
    plain.bn = nn.BatchNorm2d(4, affine=False)
    plain.bn.running_mean.normal_(generator=torch.Generator().manual_seed(1))
    plain.bn.running_var.fill_(0.3)
    net = Network.of(plain.eval(), x[:2])
    assert torch.allclose(net.model(x), plain(x), atol=1e-5)
    assert torch.equal(net.batch_norm["a"].mean, torch.zeros(4))
    # sqrt(0.3 / (0.3 + eps)) of 1
    assert torch.allclose(net.batch_norm["a"].std, torch.ones(4), atol=1e-4)


def test_batch_norm_without_running_statistics_is_refused_by_name():
    model, x = make()
    model.bn = nn.BatchNorm2d(4, track_running_stats=False).eval()
    with pytest.raises(BadInput, match="batch norm 'bn' keeps no running statistics"):
        Network.of(model, x[:2])


def test_capture_sees_outputs_before_in_place_operations():
    model, x = make()
    net = Network.of(model, x[:2])
    (y,), z = capture_both(net.model, "b", (x,), batch_size=5)
    assert torch.allclose(z, net.model.b(y), atol=1e-6)
    assert torch.equal(
        capture_input(net.model, "b", (x,), batch_size=7)[0], capture_input(net.model, "b", (x,))[0]
    )
    assert capture_output(net.model, "fc", (x,)).shape == (16, 5)


@pytest.mark.parametrize("method", [Nearest(), AdaRound(iterations=20)])
@pytest.mark.parametrize("scheme", [W4, W4A8])
def test_same_seed_same_bits_and_the_global_rng_is_untouched(method, scheme):
    model, x = make()
    net = Network.of(model, x[:2])
    before, digest = torch.random.get_rng_state(), net.digest
    first, second = (quantize(method, net, x, scheme, seed=3) for _ in range(2))
    assert first.digest == second.digest
    assert torch.equal(before, torch.random.get_rng_state())
    assert net.digest == digest


def test_a_method_works_with_exact_cudnn_and_nothing_global_stays_changed():
    cudnn, seen = torch.backends.cudnn, []

    class Looks(Nearest):
        def apply(self, job):
            seen.append((cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32))
            return super().apply(job)

    model, x = make()
    before = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32
    quantize(Looks(), Network.of(model, x[:2]), x, W4)
    assert seen == [(True, False, False)]
    assert (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32) == before


def test_save_and_load_round_trip_and_refuse_damage(tmp_path):
    model, x = make()
    net = Network.of(model, x[:2])
    q = quantize(Nearest(), net, x, W4A8)
    serialize.save(q, tmp_path)
    loaded = serialize.load(tmp_path, net, W4A8)
    assert loaded.digest == q.digest
    assert torch.equal(loaded.fake()(x), q.fake()(x))
    meta = json.loads((tmp_path / "quantized.json").read_text())
    meta["levels"]["a"] = [0, 1]
    (tmp_path / "quantized.json").write_text(json.dumps(meta))
    with pytest.raises(BadInput, match="outside its levels"):
        serialize.load(tmp_path, net, W4A8)
    meta |= {
        "levels": {k: list(range(-8, 8)) for k in meta["levels"]},
        "acts": {k: [0, 1] for k in meta["acts"]},
    }
    (tmp_path / "quantized.json").write_text(json.dumps(meta))
    with pytest.raises(BadInput, match="digest"):
        serialize.load(tmp_path, net, W4A8)
    (tmp_path / "quantized.safetensors").write_bytes(b"\x80\x04not safetensors")
    with pytest.raises(BadInput, match="not a saved quantized network"):
        serialize.load(tmp_path, net, W4A8)


def test_nearest_is_the_nearest_level_everywhere():
    model, x = make()
    q = quantize(Nearest(), Network.of(model, x[:2]), x, W4)
    for layer in q.layers():
        assert ((layer.weight - layer.original).abs() <= layer.qparams.scale / 2 + 1e-6)[
            (layer.codes > -8) & (layer.codes < 7)
        ].all()


def test_first_layer_alone():
    model, x = make()
    net = Network.of(model, x[:2])
    q = quantize(Nearest(), net, x, Scheme(Grid(2), which="first"))
    assert [layer.info.name for layer in q.layers()] == ["a"]
    assert torch.equal(q.model.fc.weight, net.model.fc.weight)


@pytest.mark.parametrize(
    ("calib", "message"),
    [
        (torch.empty(0, 3, 8, 8), "empty"),
        (torch.zeros(4, 1, 8, 8), "shape"),
        (torch.full((4, 3, 8, 8), torch.nan), "NaN"),
        (torch.zeros(4, 3, 8, 8, dtype=torch.float64), "float64"),
    ],
)
def test_bad_calibration_is_refused(calib, message):
    model, x = make()
    with pytest.raises(BadInput, match=message):
        quantize(Nearest(), Network.of(model, x[:2]), calib, W4)


@pytest.mark.parametrize(
    ("field", "value"),
    [("iterations", -1), ("lr", float("nan")), ("lam", float("inf")), ("batch_size", 0)],
)
def test_numbers_that_mean_nothing_are_refused(field, value):
    model, x = make()
    with pytest.raises(BadInput, match=field):
        quantize(AdaRound(**{field: value}), Network.of(model, x[:2]), x, W4)


def test_inputs_of_different_lengths_are_refused():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x, y):
            return self.fc(x + y)

    x = torch.randn(4, 3)
    with pytest.raises(BadInput, match=r"inputs have \[3, 4\] examples"):
        quantize(Nearest(), Network.of(Sum().eval(), (x[:2], x[:2])), (x, x[:3]), W4)


def test_an_override_of_no_layer_and_a_network_without_layers_are_refused():
    model, x = make()
    with pytest.raises(BadInput, match="no layer 'd'"):
        quantize(
            Nearest(), Network.of(model, x[:2]), x, Scheme(Grid(4), overrides=(Override("d", 2),))
        )
    with pytest.raises(BadInput, match="no layer to quantize"):
        Network.of(nn.Sequential(nn.ReLU()), x)


def test_nan_weights_are_refused_by_name():
    model, x = make()
    model.b.weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(BadInput, match=r"b\.weight"):
        Network.of(model, x[:2])


def test_weights_that_no_layer_holds_are_named():
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.fc = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

        def forward(self, x):
            return self.fc(self.attention(x, x, x, need_weights=False)[0]).mean(1)

    with pytest.warns(
        UserWarning,
        match=r"2 weights .* in full precision: attention.in_proj_weight, attention.out",
    ):
        net = Network.of(Attending().eval(), torch.randn(2, 5, 8))
    assert [i.name for i in net.layers] == ["fc"]


class Many(nn.Linear):
    def forward(self, x):
        return {"out": super().forward(x)}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Many(3, 3), "returns dict, not a tensor"),
        (nn.Linear(3, 3).half(), "'weight' is torch.float16"),
    ],
)
def test_networks_that_no_method_can_work_on_are_refused(model, message):
    with pytest.raises(BadInput, match=message):
        Network.of(model.eval(), torch.randn(2, 3))


class ReadAgain(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.relu, self.b = nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        y = self.a(x)
        return self.b(self.relu(y)) + y  # which ReLU has changed


def test_a_tensor_read_again_after_an_in_place_activation_is_refused():
    x = torch.randn(2, 3, 4, 4)
    with pytest.raises(BadInput, match="reads a tensor again that an in-place activation changed"):
        Network.of(ReadAgain().eval(), x)


def test_ranges_see_all_columns_and_channels():
    x = torch.zeros(64, 16, 32, 32)
    x[..., 5] = torch.arange(1.0, 65).view(64, 1, 1)  # a column that every 16th value misses
    quantizer = ActQuant(Grid(4, symmetric=False))
    quantizer.observe()
    quantizer(x)
    seen = quantizer._sample[0][:-2]
    assert len(seen) == pytest.approx(2**16, rel=0.1)
    assert float((seen > 0).float().mean()) == pytest.approx(1 / 32, rel=0.02)
    assert len(seen.unique()) == 65


def test_shared_layers_are_refused():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(self.fc(x))

    net = Network.of(Twice(), torch.randn(2, 4))
    with pytest.raises(Unsupported, match="shared"):
        quantize(Nearest(), net, torch.randn(3, 4), W4)


def test_adaround_reconstructs_better_than_nearest_and_resumes(tmp_path):
    model, x = make()
    net = Network.of(model, x[:2])
    scheme = Scheme(Grid(2))
    method = AdaRound(iterations=300, lr=1e-2)
    error = {
        m.name: (quantize(m, net, x, scheme).fake()(x) - net.model(x)).square().mean().item()
        for m in (Nearest(), method)
    }
    assert error["adaround"] < error["nearest"]
    whole = quantize(method, net, x, scheme, scratch=tmp_path)
    (folder,) = tmp_path.iterdir()
    (folder / "fc.safetensors").unlink()
    (folder / "b.safetensors").write_bytes(b"half written")
    assert quantize(method, net, x, scheme, scratch=tmp_path).digest == whole.digest


def test_ranges_of_many_rows_are_those_of_each_row():
    """More rows than are searched at a time."""
    x = torch.randn(40, 5000, generator=torch.Generator().manual_seed(0))
    grid = Grid(3, symmetric=False, per_channel=True)
    found, alone = estimate(x, grid), [estimate(row[None], grid) for row in x]
    assert torch.equal(found.scale, torch.cat([a.scale for a in alone]))
    assert torch.equal(found.zero, torch.cat([a.zero for a in alone]))
