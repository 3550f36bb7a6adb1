import pytest
import torch
from torch import nn

from quantbench.errors import BadInput
from quantbench.network.hooks import capture_both, capture_input, capture_output
from quantbench.network.network import Network
from quantbench.quantization.scheme import Grid, Scheme
from tests.helpers.residual import make

W4 = Scheme(Grid(4))
W4A8 = Scheme(Grid(4, per_channel=True), Grid(8, symmetric=False, range="minmax"))


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


def test_nan_weights_are_refused_by_name():
    model, x = make()
    model.b.weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(BadInput, match=r"b\.weight"):
        Network.of(model, x[:2])


def test_weights_that_no_layer_holds_are_named():
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            # with a bias of its own for keys it is none of those that are made plain
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True, add_bias_kv=True)
            self.fc = nn.Linear(8, 3)

        def forward(self, x):
            return self.fc(self.attention(x, x, x, need_weights=False)[0]).mean(1)

    with pytest.warns(
        UserWarning,
        match=r"4 weights .* in full precision: attention.in_proj_weight, attention.bias_k",
    ):
        net = Network.of(Attending().eval(), torch.randn(2, 5, 8))
    assert [i.name for i in net.layers] == ["fc"]


class Many(nn.Linear):
    def forward(self, x):
        return {"out": super().forward(x)}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(Many(3, 3)), "returns dict, not a tensor"),
        (nn.Linear(3, 3), "is itself a layer"),
        (nn.Sequential(nn.Linear(3, 3)).half(), "'0.weight' is torch.float16"),
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
