"""NanoDet-m: ShuffleNetV2, a path aggregation network, one head for each of three strides.

Sources: RangiLyu/nanodet (the network); Ma et al. 2018 (ShuffleNetV2); Liu et al. 2018 (PAN);
Li et al. 2020 (generalized focal loss: a box's distances as distributions).
"""

from __future__ import annotations

from torch import Tensor, nn

from quantbench.errors import BadInput
from quantbench.network.modules import Add, Concat

STRIDES = (8, 16, 32)  # pixels of the input to a position of each level

SIDES = ("left", "top", "right", "bottom")  # of a box, as distances from a position

BINS = 8  # of the distribution of a distance, 0 to 7 strides

_STEM, _STAGES = 24, ((116, 4), (232, 8), (464, 4))  # channels and units, Ma et al. table 5, 1x

_NECK = 96


class ShuffleUnit(nn.Module):
    """Ma et al. figure 3 (c) and (d): one half passes, or both are strided; then a shuffle."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        self.kept = 0 if stride > 1 else half  # channels that pass by
        wide = inputs - self.kept
        if stride > 1:
            down = _conv(inputs, inputs, 3, stride, groups=inputs, act=False)
            self.branch1: nn.Module = nn.Sequential(down, _conv(inputs, half))
        self.branch2 = nn.Sequential(
            _conv(wide, half),
            _conv(half, half, 3, stride, groups=half, act=False),
            _conv(half, half),
        )
        self.concat, self.shuffle = Concat(), nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        first = x[:, : self.kept] if self.kept else self.branch1(x)
        second = self.branch2(x[:, self.kept :] if self.kept else x)
        y: Tensor = self.shuffle(self.concat(first, second))
        return y


class Head(nn.Sequential):
    """Two depthwise-separable pairs, then logits of classes and of four distances."""

    def __init__(self, classes: int) -> None:
        pairs = (
            nn.Sequential(_conv(_NECK, _NECK, 3, groups=_NECK), _conv(_NECK, _NECK))
            for _ in range(2)
        )
        super().__init__(*pairs, nn.Conv2d(_NECK, classes + len(SIDES) * BINS, 1))


class NanoDetM(nn.Module):
    """The detector with batch norm folded away, and all of its outputs in one tensor.

    At half the size, bilinear interpolation without aligned corners is the mean of 2x2 pixels: the
    way down of the path aggregation is an average pool.

    Args:
        size: of the images, which are square.
        classes: that it tells apart.

    Raises:
        BadInput: a size that 32 does not divide.

    """

    def __init__(self, size: int = 416, classes: int = 80) -> None:
        super().__init__()
        if size % STRIDES[-1]:
            raise BadInput(f"NanoDet-m for {size} pixels: choose a multiple of {STRIDES[-1]}")
        self.conv1, self.maxpool = _conv(3, _STEM, 3, 2), nn.MaxPool2d(3, 2, 1)
        self.stages, inputs = nn.ModuleList(), _STEM
        for outputs, units in _STAGES:
            first = ShuffleUnit(inputs, outputs, 2)
            rest = (ShuffleUnit(outputs, outputs, 1) for _ in range(units - 1))
            self.stages.append(nn.Sequential(first, *rest))
            inputs = outputs
        self.lateral = nn.ModuleList(nn.Conv2d(c, _NECK, 1) for c, _ in _STAGES)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.down = nn.AvgPool2d(2)
        self.top_down = nn.ModuleList(Add() for _ in range(2))
        self.bottom_up = nn.ModuleList(Add() for _ in range(2))
        self.head = nn.ModuleList(Head(classes) for _ in STRIDES)
        self.canvas = Canvas(size)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, S, S) images to the maps of :class:`Canvas`; S is the size."""
        c3 = self.stages[0](self.maxpool(self.conv1(x)))
        c4 = self.stages[1](c3)
        p5 = self.lateral[2](self.stages[2](c4))
        p4 = self.top_down[0](self.lateral[1](c4), self.up(p5))
        p3 = self.top_down[1](self.lateral[0](c3), self.up(p4))
        n4 = self.bottom_up[0](p4, self.down(p3))
        n5 = self.bottom_up[1](p5, self.down(n4))
        maps: Tensor = self.canvas(self.head[0](p3), self.head[1](n4), self.head[2](n5))
        return maps


class Canvas(nn.Module):
    """Maps of strides 8, 16 and 32 as one tensor, for an integer program has one output.

    The channels follow one another; what is smaller lies in the upper left corner, zeros around it.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        large, *rest = (size // stride for stride in STRIDES)
        self.pads = nn.ModuleList(nn.ZeroPad2d((0, large - n, 0, large - n)) for n in rest)
        self.concat = Concat()

    def forward(self, large: Tensor, middle: Tensor, small: Tensor) -> Tensor:
        """Map (N, C, H, W), half of it and a quarter to (N, 3 C, H, W)."""
        maps: Tensor = self.concat(large, self.pads[0](middle), self.pads[1](small))
        return maps


def levels(canvas: Tensor) -> list[Tensor]:
    """The maps (N, C, S / stride, S / stride) again, from :class:`Canvas`'s one tensor."""
    side = canvas.shape[-1]
    parts = canvas.chunk(len(STRIDES), 1)
    sizes = [side * STRIDES[0] // stride for stride in STRIDES]
    return [part[:, :, :n, :n] for part, n in zip(parts, sizes, strict=True)]


def _conv(
    inputs: int,
    outputs: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    *,
    act: bool = True,
) -> nn.Sequential:
    """A convolution that keeps the size at stride 1, and a leaky ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)
    return nn.Sequential(conv, nn.LeakyReLU(0.1)) if act else nn.Sequential(conv)
