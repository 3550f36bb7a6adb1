"""MobileNetV1 (Howard et al. 2017, table 1) as Keras builds it, and one for 32x32 images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from quantbench.errors import BadInput

# (outputs at width 1, stride) of the 13 depthwise-separable pairs.
IMAGENET = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1)),
)

SHAPES = ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (128, 1))


class DepthwiseSeparable(nn.Sequential):
    """A 3x3 depthwise and a 1x1 pointwise convolution, each with batch norm and ReLU6."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(
            _conv(inputs, inputs, 3, stride, groups=inputs),
            _conv(inputs, outputs, 1, 1),
        )


class MobileNetV1(nn.Module):
    """Stem, depthwise-separable pairs, global mean, one linear layer.

    Args:
        width: multiplies every number of channels; the product is truncated, as in Keras.
        classes: outputs.
        stem: channels and stride of the stem at width 1.
        pairs: (outputs at width 1, stride) of every pair.

    Raises:
        BadInput: a width that leaves a layer without channels.

    """

    def __init__(
        self,
        width: float = 1.0,
        classes: int = 1000,
        stem: tuple[int, int] = (32, 2),
        pairs: Sequence[tuple[int, int]] = IMAGENET,
    ) -> None:
        super().__init__()
        widths = [int(c * width) for c in (stem[0], *(c for c, _ in pairs))]
        if min(widths) < 1:
            raise BadInput(
                f"MobileNetV1 of width {width}: a layer would have no channels; "
                "choose at least 1/32"
            )
        self.stem = _conv(3, widths[0], 3, stem[1])
        self.blocks = nn.Sequential(
            *(
                DepthwiseSeparable(i, o, s)
                for i, o, (_, s) in zip(widths, widths[1:], pairs, strict=False)
            )
        )
        self.avgpool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) images to (N, classes) logits."""
        logits: Tensor = self.fc(self.flatten(self.avgpool(self.blocks(self.stem(x)))))
        return logits


class ShapesMobileNet(MobileNetV1):
    """A small one for 32x32 images: full resolution in the stem, six pairs."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__(1.0, classes, stem=(16, 1), pairs=SHAPES)


def same_padding(
    kernel: int, stride: int, *, odd: bool = False
) -> tuple[list[nn.Module], int]:  # fmt: skip
    """TensorFlow's padding SAME of an input whose size the stride divides, or leaves a rest of 1.

    Of an odd number of zeros the larger half goes right and below, so that at stride 2 a layer of
    its own has to bring them.

    Args:
        kernel: rows and columns that a window spans.
        stride: from one window to the next.
        odd: whether the rest is 1, such as of 513 pixels at stride 2.

    Returns:
        the modules that go before a convolution, and the padding of the convolution.

    """
    zeros = max(0, kernel - (1 if odd else stride))
    before, after = zeros // 2, zeros - zeros // 2
    if before == after:
        return [], before
    return [nn.ZeroPad2d((before, after, before, after))], 0


def _conv(inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> nn.Sequential:
    """Convolution, batch norm (Keras's eps) and ReLU6, padded as TensorFlow does."""
    before, padding = same_padding(kernel, stride)
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return nn.Sequential(*before, conv, nn.BatchNorm2d(outputs, eps=1e-3), nn.ReLU6())
