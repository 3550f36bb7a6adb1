"""``quantbench data``: what is here, and how to bring what is not."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from quantbench.data.manifest import present, table
from quantbench.data.roots import data_root
from quantbench.errors import BadInput
from quantbench.system.progress_bar import often, progress_bar, watched


def run(action: str, names: Sequence[str]) -> int:
    """Do one action; returns the exit status."""
    return {"status": _status, "pull": _pull, "fetch": _fetch, "remote": _remote}[action](names)


def _status(_: Sequence[str]) -> int:
    """One line for every known file."""
    print(f"data root: {data_root()}")
    for entry in table().values():
        print(f"{'here' if present(entry) else 'missing':<8} {entry.name}")
    return 0


def _pull(names: Sequence[str]) -> int:
    """What DVC can bring; missing real data is said, and is no failure: its claims are skipped."""
    from quantbench.data.dvc import ensure

    missing = ensure(*names, progress=progress_bar())
    embedded = {e.set for e in table().values() if e.embedded}
    return 2 if any(found.name in embedded for found in missing) else 0


def _fetch(names: Sequence[str]) -> int:
    """From the public source."""
    from quantbench.data.sources.fetch import FETCHABLE, fetch

    if not names:
        known = ", ".join(sorted({table()[file].set for file in FETCHABLE}))
        raise BadInput(f"quantbench data fetch NAME; what can be fetched: {known}")
    for name in names:
        for path in fetch(name, progress=_Meter()):
            print(path)
    return 0


def _remote(names: Sequence[str]) -> int:
    """Make a plain folder of files the remote of the real tier."""
    from quantbench.data.dvc import make_remote

    if len(names) != 1:
        raise BadInput(
            "quantbench data remote FOLDER: "
            "name the one folder that holds cifar10/, imagenet/, checkpoints/"
        )
    made = make_remote(Path(names[0]))
    print(f"the real tier's remote is now {made}; next: quantbench data pull")
    return 0


class _Meter:
    """Bytes so far and time left, on stderr: twice a second, in a log every half minute."""

    def __init__(self) -> None:
        self.start = self.shown = time.monotonic()
        self.live = watched()

    def __call__(self, done: int, total: int, what: str) -> None:
        """Show where the download is."""
        now = time.monotonic()
        if now - self.shown < often() and (done < total or not self.live):
            return
        self.shown = now
        left = (now - self.start) / done * (total - done) if done else 0
        text = f"{what}: {done / 1e6:.1f} of {total / 1e6:.1f} MB, {left:.0f} s left "
        print(f"\r{text}" if self.live else text, end="" if self.live else "\n", file=sys.stderr)
