"""python -m tests.reliability.few WORDS: the command, on few of the rendered test images.

It is killed as often while it starts, judges and writes as while it evaluates.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from quantbench.cli.main import main
from tests.gate.few_images import few_images

IMAGES = 512


def run(words: list[str]) -> int:
    """With a cache of its own in the working folder."""
    with pytest.MonkeyPatch.context() as patch:
        few_images(patch, Path.cwd() / "cache", IMAGES)
        return main(words)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
