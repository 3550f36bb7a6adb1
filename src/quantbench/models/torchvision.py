"""Torchvision's classification networks by name, without their auxiliary heads, with weights from its own cache."""

from __future__ import annotations

import torchvision.models
from torch import nn

# Residual or otherwise self-contained units with one input and one output tensor, by class name.
BLOCKS = (
    *("BasicBlock", "Bottleneck", "InvertedResidual", "_InvertedResidual", "ResBottleneckBlock"),
    *(
        "Inception",
        "InceptionA",
        "InceptionB",
        "InceptionC",
        "InceptionD",
        "InceptionE",
        "Fire",
        "_DenseBlock",
    ),
    *("MBConv", "FusedMBConv", "CNBlock"),
    *("EncoderBlock", "SwinTransformerBlock", "SwinTransformerBlockV2", "MaxVitLayer"),
)

WITH_AUXILIARY = ("googlenet", "inception_v3")


def classifier(network: str) -> nn.Module:
    """Build one without weights.

    Activations work out of place, and the auxiliary classifiers of the Inceptions, which only
    training uses, are left out. The Inceptions' ``transform_input`` is left to the preprocessing,
    so that quantizers see the real input.
    """
    extra = {"aux_logits": False, "init_weights": False} if network in WITH_AUXILIARY else {}
    model: nn.Module = torchvision.models.get_model(network, weights=None, **extra)
    for module in model.modules():
        if hasattr(module, "inplace"):
            setattr(module, "inplace", False)  # noqa: B010 - the type checker takes attributes for tensors
    return model
