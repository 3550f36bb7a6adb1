"""Published weights as tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantbench.data.images import file
from quantbench.errors import DataCorrupt

if TYPE_CHECKING:
    from torch import Tensor


def checkpoint(name: str) -> dict[str, Tensor]:
    """Read a state dict by name, such as ``cifar10_resnet20_akamaster``; all weights as float32.

    Raises:
        DataMissing: it is not here.
        DataCorrupt: its digest differs, or it is no safetensors file.

    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = file(f"checkpoints/{name}.safetensors")
    try:
        tensors = load_file(path)
    except SafetensorError as e:
        raise DataCorrupt(f"{path} is not a safetensors file: {e}") from e
    return {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}
