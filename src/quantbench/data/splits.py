"""The published lists of images, which splits.toml holds."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any


@functools.cache
def splits() -> Mapping[str, Any]:
    """Every list by name."""
    path = Path(__file__).with_name("splits.toml")
    found: Mapping[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    return found


def coco_numbers() -> list[int]:
    """COCO's numbers of the images of ``coco/first128``, in order."""
    return list(splits()["coco/first128"]["ids"])
