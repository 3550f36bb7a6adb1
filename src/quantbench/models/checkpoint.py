"""Published weights as tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantbench.data import packaged
from quantbench.data.images import file
from quantbench.errors import DataCorrupt

if TYPE_CHECKING:
    from torch import Tensor


def checkpoint(name: str) -> dict[str, Tensor]:
    """Read a state dict by name, such as ``cifar10_resnet20_akamaster``; all weights as float32.

    Raises:
        DataMissing: it is not here.
        DataCorrupt: its digest differs, or it is no file of tensors.

    """
    tensors = _packaged(name) if name in packaged.CHECKPOINTS else _safetensors(name)
    return {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}


def _packaged(name: str) -> dict[str, Tensor]:
    """From an installed package."""
    from quantbench.data import torch_file

    tensors: dict[str, Tensor] = torch_file.read(packaged.weights_file(packaged.CHECKPOINTS[name]))
    return tensors


def _safetensors(name: str) -> dict[str, Tensor]:
    """From the data tiers."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = file(f"checkpoints/{name}.safetensors")
    try:
        return load_file(path)
    except SafetensorError as e:
        raise DataCorrupt(f"{path} is not a safetensors file: {e}") from e
