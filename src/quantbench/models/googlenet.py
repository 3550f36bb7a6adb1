"""BVLC GoogLeNet (Inception-v1, Szegedy et al. 2015, table 1), without batch norm.

It has two local response normalizations.
"""

from __future__ import annotations

from torch import Tensor, nn

from quantbench.network.modules import Concat

# Per block: inputs, 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection (table 1).
_BLOCKS = {
    "i3a": (192, 64, 96, 128, 16, 32, 32),
    "i3b": (256, 128, 128, 192, 32, 96, 64),
    "i4a": (480, 192, 96, 208, 16, 48, 64),
    "i4b": (512, 160, 112, 224, 24, 64, 64),
    "i4c": (512, 128, 128, 256, 24, 64, 64),
    "i4d": (512, 112, 144, 288, 32, 64, 64),
    "i4e": (528, 256, 160, 320, 32, 128, 128),
    "i5a": (832, 256, 160, 320, 32, 128, 128),
    "i5b": (832, 384, 192, 384, 48, 128, 128),
}


class Inception(nn.Module):
    """Four branches, concatenated, with ReLU after every convolution.

    1x1; 1x1 then 3x3; 1x1 then 5x5; max-pool then 1x1.
    """

    def __init__(self, inputs: int, b1: int, b3r: int, b3: int, b5r: int, b5: int, pp: int) -> None:
        super().__init__()
        self.b1, self.relu_b1 = nn.Conv2d(inputs, b1, 1), nn.ReLU()
        self.b3r, self.relu_b3r = nn.Conv2d(inputs, b3r, 1), nn.ReLU()
        self.b3, self.relu_b3 = nn.Conv2d(b3r, b3, 3, padding=1), nn.ReLU()
        self.b5r, self.relu_b5r = nn.Conv2d(inputs, b5r, 1), nn.ReLU()
        self.b5, self.relu_b5 = nn.Conv2d(b5r, b5, 5, padding=2), nn.ReLU()
        self.pool = nn.MaxPool2d(3, 1, 1)
        self.pp, self.relu_pp = nn.Conv2d(inputs, pp, 1), nn.ReLU()
        self.concat = Concat()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, b1 + b3 + b5 + pp, H, W)."""
        b1 = self.relu_b1(self.b1(x))
        b3 = self.relu_b3(self.b3(self.relu_b3r(self.b3r(x))))
        b5 = self.relu_b5(self.b5(self.relu_b5r(self.b5r(x))))
        pp = self.relu_pp(self.pp(self.pool(x)))
        out: Tensor = self.concat(b1, b3, b5, pp)
        return out


class GoogLeNet(nn.Module):
    """The network of the Caffe model zoo, without its two auxiliary classifiers.

    Its input is BGR, 0..255, minus the mean. Pools round their output size up, as Caffe's do.
    Dropout before ``fc`` does nothing in evaluation and is left out.
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.conv1, self.relu1 = nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU()
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.lrn1 = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        self.conv2r, self.relu2r = nn.Conv2d(64, 64, 1), nn.ReLU()
        self.conv2, self.relu2 = nn.Conv2d(64, 192, 3, padding=1), nn.ReLU()
        self.lrn2 = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.i3a, self.i3b = Inception(*_BLOCKS["i3a"]), Inception(*_BLOCKS["i3b"])
        self.pool3 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.i4a, self.i4b = Inception(*_BLOCKS["i4a"]), Inception(*_BLOCKS["i4b"])
        self.i4c, self.i4d = Inception(*_BLOCKS["i4c"]), Inception(*_BLOCKS["i4d"])
        self.i4e = Inception(*_BLOCKS["i4e"])
        self.pool4 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.i5a, self.i5b = Inception(*_BLOCKS["i5a"]), Inception(*_BLOCKS["i5b"])
        self.avgpool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.fc = nn.Linear(1024, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, 224, 224) images to (N, classes) logits."""
        x = self.lrn1(self.pool1(self.relu1(self.conv1(x))))
        x = self.pool2(self.lrn2(self.relu2(self.conv2(self.relu2r(self.conv2r(x))))))
        x = self.pool3(self.i3b(self.i3a(x)))
        x = self.pool4(self.i4e(self.i4d(self.i4c(self.i4b(self.i4a(x))))))
        x = self.i5b(self.i5a(x))
        logits: Tensor = self.fc(self.flatten(self.avgpool(x)))
        return logits
