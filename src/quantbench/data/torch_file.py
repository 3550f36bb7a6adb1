"""Files of ``torch.save``, read without running anything in them."""

from __future__ import annotations

import pickle
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from quantbench.errors import DataCorrupt

# what torch and pickle let through of a file that anyone may have written
DAMAGE = (
    *(RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AttributeError),
    *(AssertionError, OverflowError, MemoryError, struct.error, zipfile.BadZipFile),
)


def read(path: Path) -> Any:
    """What a file holds, if that is tensors and plain values.

    Raises:
        DataCorrupt: the file is broken, or asks for anything else.

    """
    try:
        with warnings.catch_warnings():  # what torch advises of files that it refuses all the same
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        raise DataCorrupt(
            f"{path.name} does not hold plain tensors: it would run code when loaded; refused, "
            f"nothing was executed: {_short(e)}"
        ) from e
    except DAMAGE as e:
        raise DataCorrupt(f"{path.name} is not a whole checkpoint: {_short(e)}") from e


def _short(error: Exception) -> str:
    """An error of torch without the advice that follows it."""
    return " ".join(str(error).split())[:300]
