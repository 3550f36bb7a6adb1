"""Quantize a network of your own, run it on integers, and read it back.

The network here has random weights and sees random images, so that the example needs no data. Put
your module, your images and your labels in their place.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

import quantbench as qb


class Block(nn.Module):
    """Two convolutions beside a shortcut: the sum is a tensor with a range of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.b = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return self.relu(self.b(self.relu(self.norm(self.a(x)))) + x)


def network() -> nn.Module:
    """Any torch module that returns one tensor will do."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        Block(16),
        nn.MaxPool2d(2),
        Block(16),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    ).eval()


def main() -> None:
    """From a module to integers, step by step."""
    torch.manual_seed(0)
    model, images = network(), torch.randn(64, 3, 16, 16)

    # batch norm is folded; a method never changes the network that it is given
    net = qb.Network.of(model, images[:2], name="mine", blocks=("2", "4"))
    labels = net.model(images).argmax(1)  # yours come from a data set

    # placement="integer" quantizes every tensor, so that nothing is left in floats
    scheme = qb.Scheme(
        weights=qb.Grid(4, per_channel=True),
        acts=qb.Grid(8, symmetric=False, range="minmax"),
        placement="integer",
    )
    for name, options in (("nearest", {}), ("adaround", {"iterations": 100, "lr": 0.01})):
        method = qb.method(name, options)
        quantized = qb.quantize(method, net, images[:32], scheme, seed=0)
        agreed = (quantized.fake()(images).argmax(1) == labels).float().mean()
        print(f"{name:<10} {scheme}, {quantized.bytes} bytes: {agreed:.1%} as in full precision")

    # the integer program, and the kernels of this machine
    program = qb.lower(quantized)
    run = qb.compile(program, "native", threads=1)
    logits = torch.from_numpy(run(images.numpy()))
    fake = quantized.fake()(images)
    same = (logits.argmax(1) == fake.argmax(1)).float().mean()
    largest = (logits - fake).abs().max() / fake.abs().max()
    print(
        f"native: {same:.1%} of the answers are the simulation's; largest difference {largest:.2%}"
    )

    with tempfile.TemporaryDirectory() as folder:
        qb.save(quantized, Path(folder))
        again = qb.load(Path(folder), net, scheme)
    print(f"saved and loaded: {'the same network' if again.digest == quantized.digest else 'no'}")


if __name__ == "__main__":
    main()
