import pytest
import torch
from torch import nn

from quantbench.errors import BadInput
from quantbench.methods.dead_channels import DeadChannels
from quantbench.methods.equalize import Equalize
from quantbench.network.network import Network
from quantbench.network.rewrite import Rewrite
from quantbench.quantization.method import Job, Log
from tests.helpers.separable import W8A8, Branches, Separable, close, job, seeded


def dead_network(padded):
    """Channel 1 of the depthwise layer has no variance; its folded weights are far too large."""
    model, x = seeded(Separable)
    if not padded:
        model.depth = nn.Conv2d(8, 8, 1, groups=8, bias=False)
    model.full.weight.data[1] = 0
    model.full.bias.data[1] = model.bn1.running_mean[1] = 0.3
    model.bn1.running_var[1] = 0.0
    model.bn1.bias.data[1] = -1.0  # ReLU6 then gives 0, which padding does not change
    model.depth.weight.data[1] = 30.0
    model.bn2.running_var[1] = 0.0
    model.bn2.running_mean[1] = 0.0
    model.bn2.bias.data[1] = 2.5
    return Network.of(model, x[:2]), x


def test_dead_channels_are_folded_away():
    net, x = dead_network(padded=True)
    log = Log()
    after = DeadChannels().apply(Job(net, (x,), W8A8, torch.Generator(), log=log)).net
    assert close(after.model(x), net.model(x), 1e-5)
    # two by batch norm, and two that read what ReLU6 has made 0 on all of these images
    assert log.numbers["dead_channels"] == 4
    assert log.numbers["dead_channels/largest"] == pytest.approx(
        float(net.model.depth.weight[1].abs().max())
    )
    assert 0 < log.numbers["dead_channels/median_elsewhere"] < 20
    weight = after.model.depth.weight
    assert float(net.model.depth.weight.abs().max()) > 100
    assert float(weight.abs().max()) < 20
    assert not weight[1].any()
    # the constant 2.5 went on into the pointwise layer's bias
    assert not after.model.point.weight[:, 1].any()
    assert not torch.equal(after.model.point.bias, net.model.point.bias)


def test_a_constant_that_padding_would_break_stays_in_its_own_bias():
    net, x = dead_network(padded=True)
    full = net.model.full
    full.weight.data[2], full.bias.data[2] = 0, 4.0
    net.batch_norm["full"].kept[2], net.batch_norm["full"].mean[2] = 0.0, 4.0
    after = DeadChannels().apply(job(net, x)).net
    assert float(after.model.full.bias[2]) == 4.0
    assert after.model.depth.weight[2].any()
    assert close(after.model(x), net.model(x), 1e-5)


def test_networks_without_batch_norm_have_no_dead_channels():
    model, x = seeded(Branches)
    net = Network.of(model, x[:2])
    assert torch.equal(DeadChannels().apply(job(net, x)).net.model(x), net.model(x))


def folded(seed=0):
    """A network without batch norm: channel 1 of the first layer has weights that decayed."""
    model, x = seeded(Branches, seed)
    model.i.weight.data[1] = 1e-20
    model.i.bias.data[1] = 3.0
    return Network.of(model, x[:2]), x


def test_dead_channels_are_found_without_batch_norm():
    net, x = folded()
    log = Log()
    after = DeadChannels().apply(Job(net, (x,), W8A8, torch.Generator(), log=log)).net
    assert not net.batch_norm
    assert log.numbers["dead_channels"] == 1
    assert not after.model.i.weight[1].any()
    assert not after.model.fc.weight[:, 1].any()
    assert close(after.model(x), net.model(x), 1e-5)
    untouched = DeadChannels(spread=0.0).apply(job(net, x)).net
    assert torch.equal(untouched.model.i.weight, net.model.i.weight)


def test_what_networks_compute_finds_what_batch_norm_says():
    net, x = dead_network(padded=True)
    by_norm = DeadChannels(spread=0.0).constants(job(net, x))
    measured = DeadChannels(threshold=0.0).constants(job(net, x))
    assert sum(int(dead.sum()) for dead, _ in by_norm.values()) == 2
    for name, (dead, constant) in by_norm.items():
        assert bool(measured[name][0][dead].all())
        assert torch.allclose(measured[name][1][dead], constant[dead])


def test_equalization_would_multiply_the_constant_of_a_dead_channel():
    net, x = folded()
    spoilt = Equalize().apply(job(net, x)).net
    alive = Equalize().apply(DeadChannels().apply(job(net, x))).net
    assert float(spoilt.model.i.bias[1]) > 1e8
    assert float(alive.model.i.bias.abs().max()) < 100
    assert close(alive.model(x), net.model(x))


def test_a_channel_that_is_merely_quiet_is_alive():
    net, x = folded()
    net.model.i.weight.data[2] *= 1e-3
    found = DeadChannels().constants(job(net, x))
    assert found["i"][0].tolist() == [False, True, False, False]


def test_a_rewrite_that_changed_the_function_is_refused():
    net, x = folded()
    rewrite = Rewrite(net)
    assert close(rewrite.same_function((x,)).model(x), net.model(x), 1e-6)
    rewrite.weight("i").mul_(1.5)
    with pytest.raises(BadInput, match="rewriting changed the output"):
        rewrite.same_function((x,))


def test_a_share_that_would_kill_living_channels_is_refused():
    with pytest.raises(BadInput, match="spread"):
        DeadChannels(spread=0.5)
