"""python -m tests.reliability.in_clone WORDS: the command in a clone that is the working folder.

The clone has the embedded data as a fresh one has them: in DVC's store, not yet in place.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from quantbench.cli.main import main
from quantbench.data import roots

ROOT = Path(__file__).resolve().parents[2]


def make(folder: Path) -> None:
    """What a fresh clone has of data."""
    (folder / ".dvc").mkdir(parents=True)
    shutil.copytree(ROOT / ".dvc" / "embedded", folder / ".dvc" / "embedded")
    shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc" / "config")
    shutil.copy(ROOT / "data.dvc", folder / "data.dvc")


def run(words: list[str]) -> int:
    """As if the package lay in the clone that is the working folder."""
    folder = Path.cwd()
    roots.clone_root = lambda: folder
    return main(words)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
