"""Weights of torchvision's networks, from its cache, checked."""

from __future__ import annotations

import difflib
import hashlib
import pickle
import re
from pathlib import Path
from typing import Any

import torch
import torchvision.models
from torch import Tensor

from quantbench.errors import BadInput, DataCorrupt, DataMissing

_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
_DENSELAYER = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d\.)")  # old keys: norm.1 for norm1


def weights_of(name: str) -> Any:
    """Torchvision's description of weights, such as ``resnet50`` (its first version) or ``resnet50@IMAGENET1K_V2``.

    Raises:
        BadInput: no such network or version.

    """
    network, _, version = name.partition("@")
    known = torchvision.models.list_models(module=torchvision.models)
    if network not in known:
        raise BadInput(f"no torchvision classification network {network!r}{_hint(network, known)}")
    versions = {w.name: w for w in torchvision.models.get_model_weights(network)}
    version = version or next(iter(versions))
    if version not in versions:
        raise BadInput(
            f"torchvision's {network} has no weights {version!r}{_hint(version, list(versions))}"
        )
    return versions[version]


def _hint(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 3)
    return f"; did you mean {' or '.join(near)}?" if near else f"; known: {', '.join(known)}"


def read(name: str) -> dict[str, Tensor]:
    """Read weights from torchvision's download cache, checked by the hash in the file's name.

    Raises:
        DataMissing: they were never downloaded.
        DataCorrupt: they differ from what torchvision published, or hold more than tensors.

    """
    tensors = cached(weights_of(name), f"torchvision/{name}", name.partition("@")[0])
    # in place: the mapping also carries the format versions that MNASNet asks for
    for key in list(tensors):
        tensor = tensors.pop(key)
        if not key.startswith(_AUXILIARY):
            tensors[_DENSELAYER.sub(r"\1\2", key)] = tensor
    return tensors


def cached(weights: Any, name: str, network: str) -> dict[str, Tensor]:
    """Tensors of weights in torchvision's cache; raises as :func:`read`."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]
    if not path.is_file():
        call = f"get_model('{network}', weights='{weights.name}')"
        raise DataMissing(name, f'python -c "from torchvision.models import get_model; {call}"')
    prefix = path.stem.rpartition("-")[2]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(prefix):
        raise DataCorrupt(
            f"{path} has sha256 {digest}, which should start with {prefix}: delete and download it again"
        )
    try:
        tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as e:
        raise DataCorrupt(f"{path} does not hold plain tensors: {e}") from e
    return tensors
