"""DeepLabV3 on MobileNetV2 as TensorFlow builds it (Chen et al. 2017; Sandler et al. 2018).

Output stride 8: from the stage on that would reduce the resolution to a sixteenth, depthwise
convolutions are dilated instead of strided. The spatial pyramid has one 1x1 convolution and the
image's mean, as in Sandler et al., section 6.3; there is no decoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from quantbench.errors import BadInput
from quantbench.models.inverted_residual import MOBILENET_V2, InvertedResidual, convolution
from quantbench.network.modules import Concat

_STRIDE = 8  # of the features

_STEM, _WIDE = 32, 256

_PARTS = ("expand", "depthwise", "project")


class DeepLabV3(nn.Module):
    """MobileNetV2 without its head, image pooling beside a 1x1 convolution, logits at full size.

    Batch norm is folded away: layers have biases.

    Args:
        classes: outputs of a pixel, the background among them.
        size: rows and columns of the images.

    Raises:
        BadInput: a size that is no multiple of 8 plus 1, at which alone the corners of features and
            images meet.

    """

    def __init__(self, classes: int = 21, size: int = 513) -> None:
        super().__init__()
        if size % _STRIDE != 1:
            raise BadInput(f"DeepLab for images of {size} pixels: choose 8 n + 1, such as 513")
        side = (size - 1) // _STRIDE + 1
        self.stem = convolution(3, _STEM, 3, 2, norm=False, odd=True)
        self.blocks = nn.Sequential(*_dilated())
        outputs = MOBILENET_V2[-1][1]
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.pool = _relu(outputs, _WIDE)
        self.spread = nn.Upsample((side, side), mode="bilinear", align_corners=True)
        self.aspp, self.concat = _relu(outputs, _WIDE), Concat()
        self.project = _relu(2 * _WIDE, _WIDE)
        self.logits = nn.Conv2d(_WIDE, classes, 1)
        self.resize = nn.Upsample((size, size), mode="bilinear", align_corners=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, size, size) images to (N, classes, size, size) logits."""
        x = self.blocks(self.stem(x))
        pooled = self.spread(self.pool(self.mean(x)))
        logits = self.logits(self.project(self.concat(pooled, self.aspp(x))))
        resized: Tensor = self.resize(logits)
        return resized

    def prepare(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Published tensors under the names of this module; unknown ones keep theirs."""
        ours = dict(self.published_names())
        cut = ((*key.rpartition("."), t) for key, t in tensors.items())
        return {f"{ours.get(layer, layer)}.{part}": t for layer, _, part, t in cut}

    def published_names(self) -> Iterator[tuple[str, str]]:
        """Each layer's name in the checkpoint, and here; those that differ."""
        yield from (("stem.0", "stem.conv"), ("aspp0.0", "aspp.0"), ("proj.0", "project.0"))
        for i, block in enumerate(self.blocks):
            parts = [p for p in _PARTS if not isinstance(block.get_submodule(p), nn.Identity)]
            for j, part in enumerate(parts):
                yield f"blocks.{i}.conv.{j}.0", f"blocks.{i}.{part}.conv"


def _dilated() -> Iterator[InvertedResidual]:
    """MobileNetV2's blocks; each stride beyond 8 dilates the blocks that follow it twice as far."""
    inputs, stride, dilation = _STEM, 2, 1
    for expansion, outputs, count, step, kernel in MOBILENET_V2:
        for i in range(count):
            own = step if i == 0 else 1
            further = stride * own > _STRIDE
            yield InvertedResidual(
                inputs, outputs, expansion, 1 if further else own, kernel,
                norm=False, dilation=dilation, odd=True,
            )  # fmt: skip
            if further:
                dilation *= own
            else:
                stride *= own
            inputs = outputs


def _relu(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.ReLU())
