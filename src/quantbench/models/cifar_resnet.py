"""CIFAR ResNets of depth 6n+2 (He et al. 2016, section 4.2), and the APoT paper's variant."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from quantbench.errors import BadInput
from quantbench.network.modules import Add, SubsamplePad


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut around them.

    The shortcut is called ``shortcut`` where it has no parameters and ``downsample`` where it is a
    convolution: these are the key names of the two public sources of checkpoints.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, conv_shortcut: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        if stride == 1 and inputs == outputs:
            self.shortcut: nn.Module = nn.Identity()
        elif conv_shortcut:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        else:
            self.shortcut = SubsamplePad(outputs - inputs)
        self.add = Add()
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        shortcut = self.downsample(x) if hasattr(self, "downsample") else self.shortcut(x)
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu2(self.add(y, shortcut))
        return out


class CifarResNet(nn.Module):
    """Stem, three stages of n blocks with 16, 32 and 64 channels, global mean, a linear layer.

    Args:
        depth: 6n + 2 (8, 20, 32, 44, 56, ...).
        classes: outputs.
        conv_shortcut: 1x1 convolution and batch norm where the shape changes (APoT) instead of
            option A.
        head: name of the last layer: ``linear`` (akamaster's checkpoints) or ``fc`` (APoT's).

    Raises:
        BadInput: depth is not 6n + 2.

    """

    def __init__(
        self, depth: int, classes: int = 10, *, conv_shortcut: bool = False, head: str = "linear"
    ) -> None:
        super().__init__()
        n, rest = divmod(depth - 2, 6)
        if rest or n < 1:
            raise BadInput(
                f"CIFAR ResNet of depth {depth}: choose 6n + 2, such as 8, 20, 32, 44 or 56"
            )
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(n, 16, 16, 1, conv_shortcut=conv_shortcut)
        self.layer2 = _stage(n, 16, 32, 2, conv_shortcut=conv_shortcut)
        self.layer3 = _stage(n, 32, 64, 2, conv_shortcut=conv_shortcut)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = head
        self.add_module(head, nn.Linear(64, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, 32, 32) images to (N, classes) logits."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.get_submodule(self.head)(self.flatten(self.avgpool(x)))
        return logits


def _stage(n: int, inputs: int, outputs: int, stride: int, *, conv_shortcut: bool) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride, conv_shortcut=conv_shortcut)
    return nn.Sequential(
        first, *(BasicBlock(outputs, outputs, 1, conv_shortcut=conv_shortcut) for _ in range(n - 1))
    )


def round8(weight: Tensor) -> Tensor:
    """Round a weight to 8 bits on the grid of the APoT code: ``round(127 w / max w) max w / 127``.

    The largest weight, not the largest absolute one, maps to 127: codes below -127 are kept, as in
    the source.
    """
    step = weight.max() / 127
    return torch.round(weight / step) * step


class ApotResNet20(CifarResNet):
    """The APoT paper's ResNet-20: convolutions as shortcuts, outer layers with 8-bit weights."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__(20, classes, conv_shortcut=True, head="fc")

    def prepare(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Make room for quantizer parameters, and round first and last layer to 8 bits.

        Low-bit checkpoints hold two more scalars a layer. They become buffers under the names that
        they have there, for an APoT quantizer to read: ``<conv>.act_alpha`` and
        ``<conv>.weight_quant.wgt_alpha``. The source rounds the two layers in every forward pass,
        even of its full-precision model. The rounding is a function of the weights alone and doing
        it twice changes nothing, so it is done once, here, and the layers stay ordinary ones.

        Returns:
            the tensors to load.

        """
        for key, value in tensors.items():
            if key.endswith(".act_alpha"):
                self.get_submodule(key.removesuffix(".act_alpha")).register_buffer(
                    "act_alpha", torch.empty_like(value)
                )
            elif key.endswith(".weight_quant.wgt_alpha"):
                holder = nn.Module()
                holder.register_buffer("wgt_alpha", torch.empty_like(value))
                self.get_submodule(key.removesuffix(".weight_quant.wgt_alpha")).add_module(
                    "weight_quant", holder
                )
        return {
            key: round8(t) if key in {"conv1.weight", "fc.weight"} else t
            for key, t in tensors.items()
        }
