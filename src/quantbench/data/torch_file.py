"""Files of ``torch.save``, read without running anything in them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from quantbench.errors import DataCorrupt


def read(path: Path) -> Any:
    """What a file holds, if that is tensors and plain values.

    Raises:
        DataCorrupt: the file is broken, or asks for anything else.

    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        raise DataCorrupt(
            f"{path.name} does not hold plain tensors: it would run code when loaded; refused, "
            f"nothing was executed: {e}"
        ) from e
    except (RuntimeError, EOFError, OSError, KeyError, ValueError) as e:
        raise DataCorrupt(f"{path.name} is not a whole checkpoint: {e}") from e
