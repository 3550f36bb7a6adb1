"""Networks of inverted residuals as TensorFlow builds them: MobileNetV2 and EfficientNet-Lite0."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn

from quantbench.models.mobilenet import same_padding
from quantbench.network.modules import Add

# (expansion, outputs, blocks, stride of the first, kernel) of every stage:
# Sandler et al. 2018, table 2.
MOBILENET_V2 = (
    *((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 32, 3, 2, 3), (6, 64, 4, 2, 3)),
    *((6, 96, 3, 1, 3), (6, 160, 3, 2, 3), (6, 320, 1, 1, 3)),
)

# Tan and Le 2019, table 1, whose squeeze-and-excitation and swish Lite leaves out.
EFFICIENTNET_B0 = (
    *((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3)),
    *((6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)),
)

_STEM, _HEAD = 32, 1280

_PARTS = ("expand", "depthwise", "project")


class InvertedResidual(nn.Module):
    """A 1x1 expansion, a depthwise convolution, a linear 1x1 projection, and a shortcut.

    There is no expansion at a factor of 1, and a shortcut only where shapes agree. ``norm``,
    ``dilation`` and ``odd`` are as in :func:`convolution`.
    """

    def __init__(
        self, inputs: int, outputs: int, expansion: int, stride: int, kernel: int,
        *, norm: bool, dilation: int = 1, odd: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        wide = inputs * expansion
        self.expand = convolution(inputs, wide, norm=norm) if expansion > 1 else nn.Identity()
        self.depthwise = convolution(
            wide, wide, kernel, stride, wide, norm=norm, dilation=dilation, odd=odd
        )
        self.project = convolution(wide, outputs, norm=norm, act=False)
        self.add = Add() if stride == 1 and inputs == outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return y if self.add is None else self.add(x, y)


class InvertedResiduals(nn.Module):
    """Stem, inverted residuals, 1x1 head, global mean, one linear layer.

    Args:
        stages: (expansion, outputs, blocks, stride, kernel) of each.
        classes: outputs.
        norm: batch norm behind every convolution; otherwise biases.

    """

    def __init__(
        self, stages: Sequence[tuple[int, int, int, int, int]], classes: int, *, norm: bool
    ) -> None:
        super().__init__()
        self.stem = convolution(3, _STEM, 3, 2, norm=norm)
        inputs, blocks = _STEM, []
        for expansion, outputs, count, stride, kernel in stages:
            for i in range(count):
                step = 1 if i else stride
                blocks.append(InvertedResidual(inputs, outputs, expansion, step, kernel, norm=norm))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = convolution(inputs, _HEAD, norm=norm)
        self.avgpool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.fc = nn.Linear(_HEAD, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, 224, 224) images to (N, classes) logits."""
        x = self.head(self.blocks(self.stem(x)))
        logits: Tensor = self.fc(self.flatten(self.avgpool(x)))
        return logits

    def prepare(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Published tensors under the names of this module; unknown ones keep theirs."""
        ours = dict(self.published_names())
        cut = ((*key.rpartition("."), t) for key, t in tensors.items())
        return {f"{ours.get(layer, layer)}.{part}": t for layer, _, part, t in cut}

    def published_names(self) -> Iterator[tuple[str, str]]:
        """Each layer's name in the published checkpoint, and here; those that differ."""
        yield from ()


class MobileNetV2(InvertedResiduals):
    """MobileNetV2 of width 1 with batch norm folded away, under torchvision's names.

    Source: Sandler et al. 2018.
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__(MOBILENET_V2, classes, norm=False)

    def published_names(self) -> Iterator[tuple[str, str]]:
        """See :class:`InvertedResiduals`."""
        yield from (("features.0.0", "stem.conv"), ("classifier.1", "fc"))
        for i, block in enumerate(self.blocks):
            parts = [p for p in _PARTS if not isinstance(block.get_submodule(p), nn.Identity)]
            for j, part in enumerate(parts):
                index = f"{j}" if part == "project" else f"{j}.0"
                yield f"features.{i + 1}.conv.{index}", f"blocks.{i}.{part}.conv"
        yield f"features.{len(self.blocks) + 1}.0", "head.conv"


class EfficientNetLite0(InvertedResiduals):
    """EfficientNet-Lite0 under the names of lukemelas/EfficientNet-PyTorch.

    Source: Tan and Le 2019; tensorflow/tpu, models/official/efficientnet/lite.
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__(EFFICIENTNET_B0, classes, norm=True)

    def published_names(self) -> Iterator[tuple[str, str]]:
        """See :class:`InvertedResiduals`."""
        yield from (("_conv_stem", "stem.conv"), ("_bn0", "stem.norm"), ("_fc", "fc"))
        yield from (("_conv_head", "head.conv"), ("_bn1", "head.norm"))
        for i in range(len(self.blocks)):
            for j, part in enumerate(_PARTS):
                yield f"_blocks.{i}._{part}_conv", f"blocks.{i}.{part}.conv"
                yield f"_blocks.{i}._bn{j}", f"blocks.{i}.{part}.norm"


def convolution(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1,
    *, norm: bool, act: bool = True, dilation: int = 1, odd: bool = False,
) -> nn.Sequential:  # fmt: skip
    """Convolution, batch norm (TensorFlow's eps) or bias, and ReLU6, padded as TensorFlow does.

    Args:
        inputs: channels.
        outputs: channels.
        kernel: rows and columns.
        stride: from one window to the next.
        groups: of channels.
        norm: batch norm behind the convolution; otherwise it has a bias.
        act: ReLU6 at the end.
        dilation: from one tap of a window to the next.
        odd: whether inputs have an odd number of rows and columns; see
            :func:`quantbench.models.mobilenet.same_padding`.

    """
    before, padding = same_padding((kernel - 1) * dilation + 1, stride, odd=odd)
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=not norm)
    named: list[tuple[str, nn.Module]] = [("pad", m) for m in before]
    named.append(("conv", conv))
    named += [("norm", nn.BatchNorm2d(outputs, eps=1e-3))] if norm else []
    named += [("act", nn.ReLU6())] if act else []
    return nn.Sequential(OrderedDict(named))
