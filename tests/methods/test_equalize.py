import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from quantbench.conformance import check
from quantbench.errors import BadInput
from quantbench.methods.equalize import Equalize
from quantbench.methods.factorize import Factorize
from quantbench.methods.nearest import Nearest
from quantbench.network.activation_functions import following_functions
from quantbench.network.channel_flow import links
from quantbench.network.modules import ChannelClamp
from quantbench.network.network import Network
from quantbench.network.rewrite import Rewrite
from quantbench.quantization import serialize
from quantbench.quantization.method import Job, Log, Pipeline, quantize
from quantbench.quantization.scheme import Grid, Scheme
from tests.helpers.separable import W8A8, Branches, Separable, close, job, seeded

W8 = Scheme(Grid(8, range="minmax"))


def test_links_follow_channels_and_stop_where_scaling_would_show():
    model, x = seeded(Branches)
    found = {link.layer: link for link in links(Network.of(model, x[:2]))}
    assert set(found) == {"a", "b", "i"}
    assert [(r.layer, r.offset) for r in found["a"].readers] == [("c", 0), ("d", 0)]
    assert [(r.layer, r.offset) for r in found["b"].readers] == [("c", 4), ("d", 4)]
    assert found["a"].padded
    assert not found["i"].padded
    assert found["b"].maxpooled
    assert not found["a"].maxpooled


def test_links_know_the_clamps_on_the_way():
    model, x = seeded(Separable)
    found = {link.layer: link for link in links(Network.of(model, x[:2]))}
    assert list(found) == ["full", "depth", "point", "group"]
    assert [c.module for c in found["depth"].clamps] == ["act2"]
    assert [found[n].padded for n in found] == [True, False, False, False]


@pytest.mark.parametrize(
    "method",
    [Equalize(), Equalize(activations=1.0), Factorize()],
    ids=["dfq", "joint", "factorize"],
)
@pytest.mark.parametrize("cls", [Separable, Branches])
@settings(max_examples=6)  # of 6 combinations each
@given(seed=st.integers(0, 1000))
def test_equalization_leaves_full_precision_unchanged(method, cls, seed):
    model, x = seeded(cls, seed, spread=1.5)
    net = Network.of(model, x[:2])
    after = method.apply(job(net, x)).net
    assert close(after.model(x), net.model(x))
    assert after is not net
    assert close(net.model(x), model(x))  # the original is as it was
    changed = [
        not torch.equal(
            after.model.get_submodule(i.layer).weight, net.model.get_submodule(i.layer).weight
        )
        for i in links(net)
    ]
    assert any(changed)


def test_equalization_makes_weight_ranges_meet():
    model, x = seeded(Separable)
    net = Equalize(tolerance=1e-5, sweeps=1000).apply(job(Network.of(model, x[:2]), x)).net
    rewrite = Rewrite(net)
    for link in links(net):
        r1, r2 = rewrite.output_range(link.layer), rewrite.input_range(link)
        # eq. 11 at its fixed point; the last sweep changed less than 1e-5
        assert torch.allclose(r1, r2, rtol=1e-3)


def test_joint_equalization_is_a_minimum_of_its_objective():
    method = Equalize(activations=0.7)
    r1, r2, a = torch.rand(5) + 0.1, torch.rand(5) + 0.1, torch.rand(5) + 0.1
    s = method.factors(r1, r2, a)

    def objective(s):
        return (r1 / s).log().square() + (r2 * s).log().square() + 0.7 * (a / s).log().square()

    for other in (s * 1.01, s / 1.01):
        assert bool((objective(other) > objective(s)).all())
    assert torch.allclose(Equalize().factors(r1, r2, None), (r1 * r2).sqrt() / r2)


def test_equalization_says_how_many_bits_the_spread_of_channels_cost():
    model, x = seeded(Separable, spread=2.0)
    log = Log()
    Equalize().apply(Job(Network.of(model, x[:2]), (x,), W8A8, torch.Generator(), log=log))
    assert 0 <= log.numbers["equalize/spread_after"] < log.numbers["equalize/spread_before"]


def test_channels_without_weights_are_not_scaled():
    s = Equalize(activations=1.0).factors(
        torch.tensor([0.0, 1.0, 4.0]), torch.tensor([1.0, 0.0, 1.0]), torch.zeros(3)
    )
    assert s.tolist() == [1.0, 1.0, 2.0]


def test_relu_in_place_of_relu6_changes_the_function_where_the_ceiling_was_reached():
    model, x = seeded(Separable)
    net = Network.of(model, x[:2])
    after = Equalize(relu6="relu").apply(job(net, x)).net
    assert not close(after.model(x), net.model(x), 1e-2)
    unclamped = Network.of(model, x[:2])
    for name in ("act1", "act2", "act3"):
        setattr(unclamped.model, name, nn.ReLU())
    assert close(after.model(x), unclamped.model(x))
    clamped = Equalize().apply(job(net, x))  # whose ceilings are no ReLU6 any more
    assert close(Equalize(relu6="relu").apply(clamped).net.model(x), unclamped.model(x))


def test_clamps_survive_saving_and_count_in_the_digest(tmp_path):
    model, x = seeded(Separable)
    net = Network.of(model, x[:2])
    q = quantize(Pipeline((Equalize(), Nearest())), net, x, W8A8)
    serialize.save(q, tmp_path)
    again = serialize.load(tmp_path, net, W8A8)
    assert torch.equal(again.fake()(x), q.fake()(x))
    assert isinstance(again.model.act1, ChannelClamp)
    before = q.digest
    q.model.act1.high[0] *= 2
    assert q.digest != before


def test_a_clamp_is_the_activation_of_its_layer():
    model, x = seeded(Separable)
    net = Equalize().apply(job(Network.of(model, x[:2]), x)).net
    found = following_functions(net)
    assert found["depth"] is net.model.act2
    assert found["fc"](x) is x
    assert net.layer("depth").activation is None


@pytest.mark.parametrize("wrong", [{"relu6": "relu5"}, {"sweeps": 0}, {"activations": -1.0}])
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(BadInput):
        Equalize(**wrong)


def test_equalization_with_activations_conforms():
    check(Equalize(activations=1.0))


def test_the_gradient_of_a_clamp_is_that_of_autograd():
    rng = torch.Generator().manual_seed(0)
    clamp = ChannelClamp(torch.tensor([0.0, -1.0, 0.5]), torch.tensor([1.0, 0.5, 1e30]))
    x = torch.randn(5, 3, 4, 4, generator=rng).requires_grad_()
    up = torch.randn(5, 3, 4, 4, generator=rng)
    ours = torch.autograd.grad(clamp(x), x, up)[0]
    shape = (1, 3, 1, 1)
    theirs = torch.autograd.grad(x.clamp(clamp.low.view(shape), clamp.high.view(shape)), x, up)[0]
    assert torch.equal(ours, theirs)
    assert torch.equal(clamp(x), clamp(x.detach()))
