"""Weights of torchvision's networks, from its cache, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torchvision.models
from torch import Tensor

from quantbench.data import torch_file
from quantbench.errors import BadInput, DataCorrupt, DataMissing, did_you_mean
from quantbench.system.digests import file_digest


def weights_of(name: str) -> Any:
    """Torchvision's description of weights: ``resnet50`` (its first), ``resnet50@IMAGENET1K_V2``.

    Raises:
        BadInput: no such network or version.

    """
    network, _, version = name.partition("@")
    known = torchvision.models.list_models(module=torchvision.models)
    if network not in known:
        raise BadInput(
            f"no torchvision classification network {network!r}{did_you_mean(network, known)}"
        )
    versions = {w.name: w for w in torchvision.models.get_model_weights(network)}
    version = version or next(iter(versions))
    if version not in versions:
        hint = did_you_mean(version, versions)
        raise BadInput(f"torchvision's {network} has no weights {version!r}{hint}")
    return versions[version]


def read(name: str) -> dict[str, Tensor]:
    """Read weights from torchvision's download cache, checked by the hash in the file's name.

    Raises:
        DataMissing: they were never downloaded.
        DataCorrupt: they differ from what torchvision published, or hold more than tensors.

    """
    return cached(weights_of(name), f"torchvision/{name}", name.partition("@")[0])


def cached(weights: Any, name: str, network: str) -> dict[str, Tensor]:
    """Tensors of weights in torchvision's cache; raises as :func:`read`."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]
    if not path.is_file():
        call = f"get_model('{network}', weights='{weights.name}')"
        raise DataMissing(name, f'python -c "from torchvision.models import get_model; {call}"')
    prefix = path.stem.rpartition("-")[2]
    digest = file_digest(path)
    if not digest.startswith(prefix):
        raise DataCorrupt(
            f"{path} has sha256 {digest}, which should start with {prefix}: "
            "delete and download it again"
        )
    tensors: dict[str, Tensor] = torch_file.read(path)
    return tensors
