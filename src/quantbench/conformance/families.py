"""A tiny network of every model family: the library's own blocks, few channels, fixed weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cache
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.models.bert import Encoder, encoder_network
from quantbench.models.cifar_resnet import BasicBlock, CifarResNet
from quantbench.models.googlenet import Inception
from quantbench.models.llama import LanguageModel, Sizes, language_network
from quantbench.models.mobilenet import MobileNetV1
from quantbench.models.nanodet import ShuffleUnit
from quantbench.network.modules import Add, Concat
from quantbench.network.network import Network
from quantbench.system.tensors import Inputs

EXAMPLES = 16  # of the calibration set
SIDE = 8  # pixels of an image
WORDS, LENGTH, HIDDEN = 24, 6, 8  # of the transformer


def small_network(seed: int = 0) -> tuple[Network, Tensor]:
    """A residual network with batch norm and 16 calibration examples, random but fixed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, x = CifarResNet(8), torch.randn(16, 3, 32, 32)
    blocks = [n for n, m in model.named_modules() if type(m).__name__ == "BasicBlock"]
    return Network.of(model.eval(), x[:2], name="conformance", blocks=blocks), x


def tiny_network(family: str) -> tuple[Network, Inputs]:
    """A new network of a family, and its calibration set; every call gives the same bits."""
    return copy.deepcopy(_made(family))


def calibration_set(family: str) -> Inputs:
    """What comes with the family's network."""
    return tuple(t.clone() for t in _made(family)[1])


@cache
def _made(family: str) -> tuple[Network, Inputs]:
    """Made once, and copied whenever it is asked for: nobody gets the original."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return FAMILIES[family]()


def _residual() -> tuple[Network, Inputs]:
    """Two residual blocks with batch norm, one with a convolution for a shortcut."""
    stem = nn.Conv2d(3, 6, 3, 1, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU()
    blocks = BasicBlock(6, 6, 1, conv_shortcut=False), BasicBlock(6, 8, 2, conv_shortcut=True)
    return _images("residual", nn.Sequential(*stem, *blocks, *_head(8)), ("3", "4"))


def _depthwise() -> tuple[Network, Inputs]:
    """Depthwise-separable pairs with batch norm and ReLU6."""
    model = MobileNetV1(1.0, 5, stem=(6, 1), pairs=((8, 2), (8, 1)))
    return _images("depthwise", model, ("blocks.0", "blocks.1"))


def _concatenating() -> tuple[Network, Inputs]:
    """A block of four branches without batch norm, and a pool."""
    stem = nn.Conv2d(3, 6, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2)
    model = nn.Sequential(*stem, Inception(6, 3, 4, 4, 2, 3, 2), *_head(12))
    return _images("concatenating", model, ("3",))


class Pyramid(nn.Module):
    """Body and neck of a detector: two maps of different sizes as one (N, positions, channels)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn, self.relu = nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU()
        self.down = BasicBlock(6, 8, 2, conv_shortcut=True)
        self.inner = nn.ModuleList([nn.Conv2d(6, 6, 1), nn.Conv2d(8, 6, 1)])
        self.outer = nn.ModuleList([nn.Conv2d(6, 6, 3, 1, 1), nn.Conv2d(6, 6, 3, 1, 1)])

    def forward(self, x: Tensor) -> Tensor:
        """(N, positions, channels) of (N, 3, H, W)."""
        fine = self.relu(self.bn(self.stem(x)))
        coarse = self.down(fine)
        top = self.inner[1](coarse)
        low = self.inner[0](fine) + F.interpolate(top, size=fine.shape[-2:], mode="nearest")
        maps = self.outer[0](low), self.outer[1](top)
        return torch.cat([level.flatten(2) for level in maps], 2).mT


def _detector() -> tuple[Network, Inputs]:
    """Body and neck, whose output is no class scores."""
    return _images("detector", Pyramid(), ("down",))


class Shuffled(nn.Module):
    """Units of ShuffleNetV2, paths down and up between two maps, and both in one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = ShuffleUnit(3, 8, 2), ShuffleUnit(8, 8, 2)
        self.same = ShuffleUnit(8, 8, 1)
        self.inner = nn.ModuleList([nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1)])
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.down, self.add = nn.AvgPool2d(2), nn.ModuleList([Add(), Add()])
        self.pad, self.concat = nn.ZeroPad2d((0, 2, 0, 2)), Concat()

    def forward(self, x: Tensor) -> Tensor:
        """(N, 8, H / 2, W / 2) of (N, 3, H, W)."""
        fine = self.same(self.fine(x))
        top = self.inner[1](self.coarse(fine))
        low = self.add[0](self.inner[0](fine), self.up(top))
        maps: Tensor = self.concat(low, self.pad(self.add[1](top, self.down(low))))
        return maps


def _shuffled() -> tuple[Network, Inputs]:
    """Halves of channels, shuffles, leaky ReLU and interpolation; no class scores either."""
    return _images("shuffled", Shuffled(), ("fine", "same", "coarse"))


def _transformer() -> tuple[Network, Inputs]:
    """An encoder layer on word, position and segment rows; three inputs, two of them numbers."""
    n = SimpleNamespace  # the parts of a BertModel, which is not imported for its weight
    out = n(dense=nn.Linear(HIDDEN, HIDDEN), LayerNorm=nn.LayerNorm(HIDDEN))
    heads = n(**{k: nn.Linear(HIDDEN, HIDDEN) for k in ("query", "key", "value")})
    wide = n(dense=nn.Linear(HIDDEN, 2 * HIDDEN))
    narrow = n(dense=nn.Linear(2 * HIDDEN, HIDDEN), LayerNorm=nn.LayerNorm(HIDDEN))
    layer = n(attention=n(self=heads, output=out), intermediate=wide, output=narrow)
    rows = ("word", WORDS), ("position", LENGTH), ("token_type", 2)
    tables = {f"{name}_embeddings": nn.Embedding(size, HIDDEN) for name, size in rows}
    bert = n(
        config=n(hidden_act="gelu", num_attention_heads=2),
        embeddings=n(**tables, LayerNorm=nn.LayerNorm(HIDDEN)),
        encoder=n(layer=[layer]),
    )
    ids = torch.randint(1, WORDS, (EXAMPLES, LENGTH))
    segments = (torch.arange(LENGTH) > 2).long().expand(EXAMPLES, LENGTH).contiguous()
    mask = (torch.arange(LENGTH) < torch.randint(2, LENGTH + 1, (EXAMPLES, 1))).long()
    inputs = ids * mask, segments, mask
    model = Encoder(bert).eval()
    return encoder_network(model, tuple(t[:2] for t in inputs), "transformer"), inputs


def _decoder() -> tuple[Network, Inputs]:
    """A LLaMA-style layer: causal attention, rotary positions, a gated feed-forward layer."""
    sizes = Sizes(2, LENGTH, WORDS, HIDDEN, wide=2 * HIDDEN, layers=1, shared=1)
    ids = torch.randint(0, WORDS, (EXAMPLES, LENGTH))
    return language_network(LanguageModel(sizes).eval(), (ids[:2],), "decoder"), (ids,)


def _head(channels: int) -> tuple[nn.Module, ...]:
    """Class scores from a map."""
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5)


def _images(name: str, model: nn.Module, blocks: Sequence[str]) -> tuple[Network, Inputs]:
    """The network on images whose neighbouring pixels are alike; batch norms have statistics."""
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.normal_(norm.running_mean, 0.0, 0.1)  # type: ignore[arg-type]
        nn.init.uniform_(norm.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    x = F.avg_pool2d(torch.randn(EXAMPLES, 3, SIDE + 2, SIDE + 2), 3, 1)
    return Network.of(model.eval(), x[:2], name=name, blocks=blocks), (x,)


FAMILIES: dict[str, Callable[[], tuple[Network, Inputs]]] = {
    "residual": _residual,
    "depthwise": _depthwise,
    "concatenating": _concatenating,
    "transformer": _transformer,
    "decoder": _decoder,
    "detector": _detector,
    "shuffled": _shuffled,
}
