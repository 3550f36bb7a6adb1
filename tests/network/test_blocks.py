"""Blocks found from the graph are those that families declare by class."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from quantbench.errors import BadInput
from quantbench.methods.brecq import BRECQ
from quantbench.models import loading
from quantbench.models.catalog import spec
from quantbench.models.llama import LanguageModel, Sizes, language_network
from quantbench.models.loading import pretrained
from quantbench.network.network import Network
from quantbench.quantization.method import quantize
from quantbench.quantization.scheme import Grid, Scheme

OWN = {  # one of each family, and the size of the images that it is looked at with
    "cifar10/resnet20": 32,
    "cifar10/resnet20-apot": 32,
    "imagenet/googlenet-bvlc": 224,
    "imagenet/mobilenetv1-0.25": 64,
    "imagenet/mobilenetv2-1.0": 64,
    "imagenet/efficientnet-lite0": 64,
    "voc/deeplabv3-mobilenetv2": 513,
    "coco/nanodet-m-416": 416,
    "shapes/resnet8": 32,
    "shapes/mobilenet": 32,
}

TORCHVISION = {
    "resnet18": 64,
    "resnet50": 64,
    "regnet_x_400mf": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "mnasnet0_5": 64,
    "shufflenet_v2_x0_5": 64,
    "squeezenet1_1": 64,
    "densenet121": 64,
    "efficientnet_b0": 64,
    "efficientnet_v2_s": 64,
    "convnext_tiny": 64,
    "inception_v3": 96,
    "swin_t": 64,
    "vit_b_32": 224,
}


@pytest.mark.filterwarnings("ignore:.*weights are multiplied outside")
@pytest.mark.parametrize("name", [*OWN, *(f"torchvision/{n}" for n in TORCHVISION)])
def test_found_blocks_are_the_declared_ones(name: str) -> None:
    size = OWN.get(name) or TORCHVISION[name.removeprefix("torchvision/")]
    rng = torch.Generator().manual_seed(0)
    model = pretrained(name, weights=False, generator=rng)
    declared = loading.block_names(model, spec(name))
    net = Network.of(model, torch.rand(1, 3, size, size, generator=rng), name=name)
    assert net.blocks == tuple(declared)
    assert net.stages == loading.stages(model, declared)


def test_found_blocks_of_a_language_model_are_its_decoder_layers() -> None:
    sizes = Sizes(heads=2, context=8, words=20, hidden=8, wide=12, layers=3, shared=1)
    torch.manual_seed(0)
    ids = torch.randint(0, sizes.words, (2, sizes.context))
    declared = language_network(LanguageModel(sizes).eval(), (ids,), "small")
    kinds = (nn.Linear, nn.Embedding)
    found = Network.of(declared.model, ids, kinds=kinds)
    assert found.blocks == declared.blocks == ("layers.0", "layers.1", "layers.2")


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.b(torch.relu(self.a(x))))


def test_found_blocks_are_reconstructed_and_others_can_be_named() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), Pair(), Pair(), nn.Conv2d(4, 4, 3, 2), Pair()).eval()
    x = torch.randn(16, 3, 8, 8)
    net = Network.of(model, x[:2])
    assert net.blocks == ("1", "2", "4")
    assert net.stages == (("1", "2"), ("4",))
    by_hand = Network.of(model, x[:2], blocks=("2",), stages=())
    assert (by_hand.blocks, by_hand.stages) == (("2",), ())
    with pytest.raises(BadInput, match="block 'nothing' is not a module"):
        Network.of(model, x[:2], blocks=("nothing",))
    method, scheme = BRECQ(iterations=60, lr=0.1, loss="mse"), Scheme(Grid(2, per_channel=True))
    found, named = (
        quantize(method, n, x, scheme).digest
        for n in (net, Network.of(model, x[:2], blocks=("1", "2", "4")))
    )
    assert found == named != quantize(method, by_hand, x, scheme).digest
