"""Calibration data from batch-norm statistics."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from quantbench.errors import BadInput, Unsupported
from quantbench.methods.distill import Distill, mismatch, mismatch_of_images
from quantbench.methods.equalize import Equalize
from quantbench.methods.nearest import Nearest
from quantbench.network.network import Network
from quantbench.quantization.method import Job, Log, Pipeline, quantize
from quantbench.quantization.registry import make
from quantbench.quantization.scheme import Grid, Scheme

SCHEME = Scheme(
    Grid(8, symmetric=False, per_channel=True), Grid(8, symmetric=False, range="minmax")
)


def images(n, seed):
    """What the network knows: smooth and within -1..1, channels far from equal."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 4, 4, generator=rng) * 2 - 1
    scale = torch.tensor([1.0, 0.5, 0.2])[:, None, None]
    return nn.functional.interpolate(coarse, size=12, mode="bilinear") * scale


@pytest.fixture(scope="module")
def net():
    """Convolutions whose batch norms have recorded the images' statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = [
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
        ]
        model = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    for norm in (model[1], model[4]):
        norm.momentum = None  # the average over everything seen
    model.train()(images(512, 0))
    return Network.of(model.eval(), images(2, 1), name="small")


def distilled(net, seed=0, **fields):
    log = Log()
    job = Job(
        net, (torch.zeros(16, 3, 12, 12),), SCHEME, torch.Generator().manual_seed(seed), log=log
    )
    return Distill(**{"iterations": 50, "bound": 1.0, **fields}).apply(job).calib[0], log


def test_statistics_become_those_that_batch_norm_recorded(net):
    x, log = distilled(net)
    assert x.shape == (16, 3, 12, 12)
    first, last = log.curves["distill/0"][0], log.curves["distill/0"][-1]
    assert last < first / 20
    # the same float32 sums, in one batch
    assert last == pytest.approx(float(mismatch(net.unfolded, x)), rel=1e-4)
    assert x.abs().max() <= 1.0
    assert log.numbers["distill/last/0"] == last


def test_an_interrupted_run_goes_on_with_the_batch_it_was_at(net, tmp_path, monkeypatch):
    def run(folder):
        log = Log()
        job = Job(
            net,
            (torch.zeros(16, 3, 12, 12),),
            SCHEME,
            torch.Generator().manual_seed(3),
            log=log,
            scratch=folder,
        )
        return Distill(iterations=5, batch_size=6).apply(job).calib[0], log

    want, log = run(None)
    run(tmp_path)
    files = sorted(tmp_path.rglob("*.safetensors"))
    assert len(files) == 3  # 6, 6 and 4 images
    files[2].unlink()
    begun, batch = [], Distill.batch
    monkeypatch.setattr(
        Distill,
        "batch",
        lambda self, job, i, *rest: (begun.append(i), batch(self, job, i, *rest))[1],
    )
    found, again = run(tmp_path)
    assert begun == [2]
    assert torch.equal(found, want)
    assert (again.curves, again.numbers) == (log.curves, log.numbers)


def test_what_is_matched_is_mean_and_deviation_of_every_norms_input(net):
    x = images(5, 2)
    with torch.no_grad():
        first = net.unfolded[0](x)
        second = net.unfolded[3](net.unfolded[2](net.unfolded[1](first)))
        expected = 0.0
        for y, norm in ((first, net.unfolded[1]), (second, net.unfolded[4])):
            channels = y.transpose(0, 1).flatten(1)
            mean = (channels.mean(1) - norm.running_mean).square().mean()
            std = (channels.std(1, correction=0) - norm.running_var.sqrt()).square().mean()
            expected += float(mean + std) / 2
        # eps inside both roots: 1e-5 against deviations near 0.3
        assert float(mismatch(net.unfolded, x)) == pytest.approx(expected, rel=1e-3, abs=1e-6)


def zeroqs_loss(model, x):
    """ZeroQ's own_loss, layer by layer, with its flattened maps and norms."""

    def away(a, b):
        return (a - b).norm() ** 2 / len(x)

    def moments(y):
        flat = y.view(*y.shape[:2], -1)
        return flat.mean(2), (flat.var(2) + 1e-6).sqrt()

    first = model[0](x)
    second = model[3](model[2](model[1](first)))
    total = sum(
        away(a, b) for a, b in zip((torch.zeros(1, 3), torch.ones(1, 3)), moments(x), strict=True)
    )
    for y, norm in ((first, model[1]), (second, model[4])):
        wanted = norm.running_mean, (norm.running_var + 1e-6).sqrt()
        total = total + sum(away(a, b) for a, b in zip(wanted, moments(y), strict=True))
    return total


def test_zeroqs_way_matches_each_image_and_the_input(net):
    x = images(5, 2)
    with torch.no_grad():
        want = float(zeroqs_loss(net.unfolded, x))
        assert float(mismatch_of_images(net.unfolded, x)) == pytest.approx(want, rel=1e-5)
    made, log = distilled(net, match="image", bound=0.0, lr=0.05)
    curve = log.curves["distill/0"]
    assert curve[-1] < curve[0] / 3
    assert curve[-1] == pytest.approx(float(mismatch_of_images(net.unfolded, made)), rel=1e-4)
    # each image on its own, where ours lets images differ
    deviation = (made.std((2, 3)) - 1).abs().mean()
    assert deviation < (distilled(net)[0].std((2, 3)) - 1).abs().mean()
    with pytest.raises(BadInput, match="match 'pixel'; choose batch or image"):
        Distill(match="pixel")


def test_ranges_are_near_those_of_real_images_and_of_noise_they_are_not(net):
    # extremes are not what is matched
    bulk = Scheme(SCHEME.weights, Grid(8, symmetric=False, range="percentile99"))
    noise = torch.randn(64, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    real, drawn, made = (
        quantize(method, net, x, bulk).act_quants()["3.act"].scale
        for method, x in (
            (Nearest(), images(256, 3)),
            (Nearest(), noise),
            (Pipeline((Distill(images=16, iterations=50, bound=1.0), Nearest())), noise),
        )
    )
    # two moments of a skewed distribution do not fix its quantiles
    assert abs(made / real - 1) < 0.3
    assert abs(drawn / real - 1) > 0.5


def test_images_are_a_function_of_the_generator(net):
    a, b, c = (distilled(net, seed, iterations=3)[0] for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_batches_are_distilled_apart_and_there_may_be_more_than_were_given(net):
    x, log = distilled(net, images=70, batch_size=32, iterations=2)
    assert len(x) == 70
    assert list(log.curves) == ["distill/0", "distill/1", "distill/2"]


@pytest.mark.filterwarnings("ignore:.*no known blocks")
def test_it_goes_before_reconstruction(net):
    chain = make(
        "distill+brecq", {"distill.iterations": 5, "brecq.iterations": 5, "act_iterations": 2}
    )
    q = quantize(chain, net, images(16, 4), SCHEME)
    # of real images only the number counts
    assert q.digest == quantize(chain, net, images(16, 5), SCHEME).digest


def test_after_a_rewrite_it_is_refused(net):
    with pytest.raises(BadInput, match="put distill before"):
        quantize(
            Pipeline((Equalize(), Distill(iterations=1), Nearest())), net, images(4, 1), SCHEME
        )


def test_networks_without_batch_norm_say_so():
    plain = Network.of(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(400, 2)),
        images(2, 1),
        name="plain",
    )
    with pytest.raises(Unsupported, match="plain has no batch norm"):
        quantize(Pipeline((Distill(), Nearest())), plain, images(4, 1), SCHEME)


def test_inputs_that_are_no_images_say_so():
    model = nn.Sequential(
        nn.Linear(3, 4), nn.Unflatten(1, (4, 1, 1)), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
    ).eval()
    rows = Network.of(model, torch.zeros(2, 3), name="rows")
    with pytest.raises(Unsupported, match="does not take images"):
        quantize(Pipeline((Distill(), Nearest())), rows, torch.zeros(4, 3), SCHEME)
