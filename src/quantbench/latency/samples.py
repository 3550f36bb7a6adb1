"""Networks to time: quantized by nearest rounding, and lowered.

Weights are trained ones where they are at hand, and random otherwise. On a processor without an
instruction that adds products to an int32, time depends on them: pairs of products that could leave
int16 take steps of their own. Ranges are taken from images, so that codes spread over what they may
be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from quantbench.errors import DataMissing
from quantbench.integer.backends.base import Array
from quantbench.integer.ir import Program
from quantbench.integer.lowering.lower import lower
from quantbench.latency.targets import SCHEMES
from quantbench.network.network import Network

CALIBRATION = 4  # random images that ranges are taken from

REAL = 64  # real ones


@dataclass(frozen=True, eq=False)
class Sample:
    """A network in full precision, batch norm folded, and images that ranges are taken from.

    Attributes:
        net: the network.
        x: float32 images (N, C, H, W).
        weights: ``trained`` or ``random``.

    """

    net: Network
    x: Tensor
    weights: str

    @property
    def images(self) -> Array:
        """The first few of the images, as an array."""
        return np.ascontiguousarray(self.x[:CALIBRATION].numpy())

    def program(self, scheme: str) -> Program:
        """The integer network, with the bits of one of ``SCHEMES``."""
        return self.quantized(*SCHEMES[scheme])

    def quantized(self, weight_bits: int, act_bits: int, edge_bits: int | None) -> Program:
        """The integer network.

        Args:
            weight_bits: of every other layer, symmetric, a scale a channel.
            act_bits: of every other activation.
            edge_bits: of the first and the last layer; ``None``: as all others.

        """
        from quantbench.calibration.weight_ranges import nearest_network
        from quantbench.quantization.scheme import Grid, Scheme

        scheme = Scheme(
            Grid(weight_bits, per_channel=True, range="minmax"),
            Grid(act_bits, range="minmax"),
            placement="integer",
            first_last_bits=edge_bits,
        )
        return lower(nearest_network(self.net, (self.x,), scheme))


def sample(network: str, seed: int = 0) -> Sample:
    """Trained weights and real images where both are at hand, else random ones.

    Args:
        network: its name, as :func:`quantbench.models.catalog.spec` knows it.
        seed: of what is drawn.

    """
    from quantbench.data.images import images
    from quantbench.models.catalog import spec
    from quantbench.models.loading import pretrained

    about = spec(network)
    try:
        model, real = pretrained(network), images(about.calib_data)
    except DataMissing:
        return drawn(network, seed)
    order = torch.randperm(len(real.x), generator=torch.Generator().manual_seed(seed))
    x = about.preprocess(real.x[order[:REAL].numpy()])
    return Sample(Network.of(model, x[:1], name=network), x, "trained")


def drawn(network: str, seed: int = 0) -> Sample:
    """Random weights and images."""
    from quantbench.models.catalog import spec
    from quantbench.models.loading import pretrained

    rng = torch.Generator().manual_seed(seed)
    model, size = pretrained(network, weights=False, generator=rng), spec(network).size
    _spread(model, rng)
    x = torch.randn(CALIBRATION, 3, size, size, generator=rng)
    return Sample(Network.of(model, x[:1], name=network), x, "random")


def sample_program(
    network: str,
    *,
    weight_bits: int = 8,
    act_bits: int = 8,
    edge_bits: int | None = 8,
    seed: int = 0,
) -> tuple[nn.Module, Program, Array]:
    """Draw weights, fold batch norm, round to nearest and lower.

    Args:
        network: see :func:`sample`.
        weight_bits: see :meth:`Sample.quantized`.
        act_bits: see there.
        edge_bits: see there.
        seed: of weights and images.

    Returns:
        the folded network in full precision, its program, and float32 images (N, C, H, W).

    """
    found = drawn(network, seed)
    return found.net.model, found.quantized(weight_bits, act_bits, edge_bits), found.images


@torch.no_grad()
def _spread(model: nn.Module, rng: torch.Generator) -> None:
    """Weights that keep the variance through depth (He et al. 2015), and uneven batch norms."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.copy_(torch.randn(module.num_features, generator=rng) / 10)
            module.running_var.copy_(torch.rand(module.num_features, generator=rng) + 0.5)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            deviation = (2 / module.weight[0].numel()) ** 0.5
            module.weight.copy_(torch.randn(module.weight.shape, generator=rng) * deviation)
            if module.bias is not None:
                module.bias.copy_(torch.randn(module.bias.shape, generator=rng) / 10)
