import pytest
import torch
from torch import nn

from quantbench.calibration.channel_statistics import Extremes, channel_extremes
from quantbench.conformance import check
from quantbench.errors import BadInput
from quantbench.methods.factorize import Factorize
from quantbench.network.activation_functions import following_functions
from quantbench.network.channel_flow import links
from quantbench.network.network import Network
from quantbench.network.rewrite import Rewrite
from quantbench.quantization.method import Job, Log
from tests.helpers.separable import W8A8, Branches, Separable, close, job, seeded


def test_factorization_amplifies_and_no_range_grows():
    model, x = seeded(Separable)
    net = Network.of(model, x[:2])
    after = Factorize(steps="one", max_gain=0.0).apply(job(net, x)).net
    for link in links(net):
        old, new = Rewrite(net), Rewrite(after)
        assert float(new.output_range(link.layer).amax()) <= float(
            old.output_range(link.layer).amax()
        ) * (1 + 1e-5)
        z_old, z_new = ([], [])
        for n, kept in ((net, z_old), (after, z_new)):
            fa = following_functions(n)[link.layer]
            hook = n.model.get_submodule(link.layer).register_forward_hook(
                lambda _m, _x, z, f=fa, k=kept: k.append(f(z))
            )
            n.model(x)
            hook.remove()
        old_max, new_max = (z[0].abs().amax((0, 2, 3)) for z in (z_old, z_new))
        assert float(new_max.max()) <= float(old_max.max()) * (1 + 1e-5)
        assert bool((new_max >= old_max * (1 - 1e-5)).all())


def test_factors_by_hand():
    """Two channels of one layer, read by one layer; every limit in turn."""
    net, link, seen = tiny(weights=(4.0, 0.5), acts=(8.0, 0.25), reads=(0.1, 1.0))
    rewrite = Rewrite(net)
    plain = {"max_gain": 0.0, "pre_activation": False}
    one = Factorize(steps="one", **plain).factors(rewrite, link, seen)
    assert one.tolist() == pytest.approx([1.0, 8.0])  # by weights 4 / 0.5, by activations 8 / 0.25
    # attenuated first by k = 0.1 and 1: largest weight 0.5, largest activation 0.8
    two = Factorize(steps="two", **plain).factors(rewrite, link, seen)
    assert two.tolist() == pytest.approx([0.1, 1.0])
    released = Factorize(steps="released", **plain).factors(rewrite, link, seen)
    assert released.tolist() == one.tolist()  # one layer reads it
    capped = Factorize(steps="one", max_gain=2.0, pre_activation=False)
    assert capped.factors(rewrite, link, seen).tolist() == pytest.approx([1.0, 2.0])
    # 8 / 2 is as far as the lowest value before the activation function may go
    low = Extremes(torch.tensor([-1.0, -2.0]), seen.high, seen.after)
    limited = Factorize(steps="one", max_gain=0.0).factors(rewrite, link, low)
    assert limited.tolist() == pytest.approx([1.0, 4.0])


def tiny(weights, acts, reads):
    """A layer of two channels with given largest weights, read with given largest weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    model[0].weight.data = torch.tensor(weights).reshape(2, 1)
    model[2].weight.data = torch.tensor(reads).reshape(1, 2)
    x = torch.ones(2, 1)
    net = Network.of(model, x)
    after = torch.tensor(acts)
    return net, links(net)[0], Extremes(torch.zeros(2), after, after)


def test_the_reading_layers_range_does_not_grow_by_attenuation():
    net, link, seen = tiny(weights=(4.0, 0.5), acts=(8.0, 0.25), reads=(0.1, 1.0))
    rewrite = Rewrite(net)
    rewrite.divide(link, 1 / Factorize(steps="two").factors(rewrite, link, seen))
    assert float(rewrite.weight("2").abs().max()) <= 1.0 + 1e-6
    assert rewrite.output_range("0").tolist() == pytest.approx([0.4, 0.5])


def test_concatenated_layers_share_the_largest_activation():
    model, x = seeded(Branches)
    model.b.weight.data *= 0.01
    model.b.bias.data *= 0.01
    net = Network.of(model, x[:2])
    after = Factorize(steps="one", max_gain=0.0, pre_activation=False).apply(job(net, x)).net
    seen = channel_extremes(after, (x,))
    assert float(seen["b"].after.amax()) == pytest.approx(float(seen["a"].after.amax()), rel=1e-4)
    apart = Factorize(steps="one", max_gain=0.0, pre_activation=False, align=False)
    seen = channel_extremes(apart.apply(job(net, x)).net, (x,))
    assert float(seen["b"].after.amax()) < 0.1 * float(seen["a"].after.amax())


def test_no_channel_before_a_relu6_gets_less_than_the_floor():
    model, x = seeded(Separable)
    net = Network.of(model, x[:2])
    after = Factorize(steps="two", max_gain=0.0).apply(job(net, x)).net
    for name in ("act1", "act2", "act3"):
        assert float(after.model.get_submodule(name).high.min()) >= 6 * 0.7 * (1 - 1e-5)
    free = Factorize(steps="two", relu6_floor=0.0).apply(job(net, x)).net
    assert min(float(free.model.get_submodule(f"act{i}").high.min()) for i in (1, 2, 3)) < 4.2


def test_relu6_can_stay_as_released_and_says_what_that_changes():
    model, x = seeded(Separable)
    net = Network.of(model, x[:2])
    log = Log()
    after = (
        Factorize(steps="two", relu6="keep")
        .apply(Job(net, (x,), W8A8, torch.Generator(), log=log))
        .net
    )
    assert type(after.model.act1) is nn.ReLU6
    assert 0 < log.numbers["factorize/changed"] < 2
    assert close(Factorize().apply(job(net, x)).net.model(x), net.model(x))


@pytest.mark.parametrize(
    "wrong", [{"steps": "three"}, {"relu6": "relu"}, {"max_gain": 0.5}, {"relu6_floor": 2.0}]
)
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(BadInput):
        Factorize(**wrong)


@pytest.mark.parametrize("steps", ["one", "two", "released"])
def test_factorization_conforms(steps):
    check(Factorize(steps=steps))
