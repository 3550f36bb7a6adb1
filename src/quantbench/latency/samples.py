"""Networks with random weights, quantized and lowered: what latency is measured on.

Time does not depend on values, but whether a product is exact does: ranges are taken from images,
so that codes spread over what they may be.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from quantbench.integer.backends.base import Array
from quantbench.integer.ir import Program
from quantbench.integer.lowering.lower import lower

CALIBRATION = 4  # images that ranges are taken from


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
        network: name of a network, as :func:`quantbench.models.catalog.spec` knows it.
        weight_bits: of every other layer, symmetric, a scale a channel.
        act_bits: of every other activation.
        edge_bits: of the first and the last layer; ``None``: as all others.
        seed: of weights and images.

    Returns:
        the folded network in full precision, its program, and float32 images (N, C, H, W).

    """
    from quantbench.calibration.weight_ranges import nearest_network
    from quantbench.models.catalog import spec
    from quantbench.models.loading import pretrained
    from quantbench.network.network import Network
    from quantbench.quantization.scheme import Grid, Scheme

    rng = torch.Generator().manual_seed(seed)
    model, size = pretrained(network, weights=False, generator=rng), spec(network).size
    _spread(model, rng)
    x = torch.randn(CALIBRATION, 3, size, size, generator=rng)
    net = Network.of(model, x[:1], name=network)
    scheme = Scheme(
        Grid(weight_bits, per_channel=True, range="minmax"),
        Grid(act_bits, range="minmax"),
        placement="integer",
        first_last_bits=edge_bits,
    )
    program: Program = lower(nearest_network(net, (x,), scheme))
    images: Array = np.ascontiguousarray(x.numpy())
    return net.model, program, images


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
