"""States of work under way in one file: tensors as safetensors, all else as JSON in its header.

Reading runs nothing that is in a file, and a checksum tells a damaged file from a whole one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quantbench.system.tensors import tensor_digest

# whatever a file that anyone may have written leads safetensors, torch and JSON to
DAMAGE = (LookupError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError)


def to_bytes(state: Any) -> bytes:
    """A state as a file holds it.

    Args:
        state: tensors, numbers and texts, in mappings, lists and tuples. Keys of mappings are
            numbers or texts; tuples come back as lists.

    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    text = json.dumps(_plain(state, tensors))
    return save(tensors, {"state": text, "sha256": _digest(text, tensors)})


def read(path: Path) -> Any:
    """The state again, its tensors on the CPU.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it holds no state, or a damaged one.

    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    content = path.read_bytes()
    try:
        tensors = load(content)
        size = int.from_bytes(content[:8], "little")
        about = json.loads(content[8 : 8 + size])["__metadata__"]
        if about["sha256"] != _digest(about["state"], tensors):
            raise ValueError("its contents do not match its checksum")
        return _state(json.loads(about["state"]), tensors)
    except (*DAMAGE, SafetensorError) as e:
        raise ValueError(f"no state of work under way: {type(e).__name__}: {e}") from e


def _plain(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON's values; tensors are put aside under a number."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        # as it lay in memory: what is computed on another layout may differ in the last bit
        last = value.dim() == 4 and value.is_contiguous(memory_format=torch.channels_last)
        return {"tensor": name, "channels_last": last and not value.is_contiguous()}
    if isinstance(value, Mapping):  # as pairs: JSON would make texts of numbers
        return {"items": [[key, _plain(one, tensors)] for key, one in value.items()]}
    return [_plain(one, tensors) for one in value] if isinstance(value, list | tuple) else value


def _state(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What :func:`_plain` was given."""
    if isinstance(value, list):
        return [_state(one, tensors) for one in value]
    if not isinstance(value, dict):
        return value
    if "items" in value:
        return {key: _state(one, tensors) for key, one in value["items"]}
    found = tensors[value["tensor"]]
    layout = torch.channels_last if value["channels_last"] else torch.contiguous_format
    return found.contiguous(memory_format=layout)


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    return hashlib.sha256(f"{tensor_digest(tensors)} {text}".encode()).hexdigest()
