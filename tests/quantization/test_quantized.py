import json

import pytest
import torch
from torch import nn

from quantbench.errors import BadInput, Unsupported
from quantbench.methods.adaround import AdaRound
from quantbench.methods.nearest import Nearest
from quantbench.network.network import Network
from quantbench.quantization import serialize
from quantbench.quantization.layers import ActQuant
from quantbench.quantization.method import quantize
from quantbench.quantization.ranges import estimate
from quantbench.quantization.scheme import Grid, Override, Scheme
from tests.helpers.residual import make

W4 = Scheme(Grid(4))
W4A8 = Scheme(Grid(4, per_channel=True), Grid(8, symmetric=False, range="minmax"))


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
