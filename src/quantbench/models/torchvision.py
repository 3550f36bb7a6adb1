"""Torchvision's classification networks by name, without their auxiliary heads."""

from __future__ import annotations

import re
from collections.abc import Callable

import torchvision.models
from torch import Tensor, nn

from quantbench.data import torchvision_weights

# Residual or otherwise self-contained units with one input and one output tensor, by class name.
BLOCKS = (
    *("BasicBlock", "Bottleneck", "InvertedResidual", "_InvertedResidual", "ResBottleneckBlock"),
    *("Inception", "InceptionA", "InceptionB", "InceptionC", "InceptionD", "InceptionE"),
    *("Fire", "_DenseBlock"),
    *("MBConv", "FusedMBConv", "CNBlock"),
    *("EncoderBlock", "SwinTransformerBlock", "SwinTransformerBlockV2", "MaxVitLayer"),
)

WITH_AUXILIARY = ("googlenet", "inception_v3")

_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")

_DENSELAYER = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d\.)")  # old keys: norm.1 for norm1


def weights(name: str) -> dict[str, Tensor]:
    """Published weights under today's names, without those of auxiliary heads.

    Raises:
        DataMissing: they were never downloaded.
        DataCorrupt: they are not what torchvision published.

    """
    tensors = torchvision_weights.read(name)
    # in place: the mapping also carries the format versions that MNASNet asks for
    for key in list(tensors):
        tensor = tensors.pop(key)
        if not key.startswith(_AUXILIARY):
            tensors[_DENSELAYER.sub(r"\1\2", key)] = tensor
    return tensors


def classifier(network: str, build: Callable[[], nn.Module] | None = None) -> nn.Module:
    """Build one without weights, by torchvision's function of that name or by another.

    Activations work out of place, and the auxiliary classifiers of the Inceptions, which only
    training uses, are left out. The Inceptions' ``transform_input`` is left to the preprocessing,
    so that quantizers see the real input.
    """
    extra = {"aux_logits": False, "init_weights": False} if network in WITH_AUXILIARY else {}
    model: nn.Module = (
        build() if build else torchvision.models.get_model(network, weights=None, **extra)
    )
    for module in model.modules():
        if hasattr(module, "inplace"):
            # the type checker takes attributes for tensors
            setattr(module, "inplace", False)  # noqa: B010
    return model
