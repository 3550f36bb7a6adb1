"""python -m tests.reliability [KILLS [FOLDER]]: kill commands, then write the page."""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

from quantbench.system.machine import fingerprint
from tests.reliability.kills import Killed, kill
from tests.reliability.work import WORK

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"

HEAD = """# Reliability

Commands are killed with SIGKILL, and all that they started, at moments drawn evenly over the time
that they take; up to five times in one folder, and then they run to their end. After every kill
what was stored before is still there, every cell, baseline, page and data file is whole, and no
result is there that an undisturbed run has not; at the end everything equals what the undisturbed
run left: scores and networks bit for bit. Made by `nox -s reliability`; do not edit.

| command | seconds | kills | more came after its end | runs to the end | damaged or lost |
|---|---|---|---|---|---|
"""


def main(kills: int, folder: Path) -> None:
    """Kill every command about equally often."""
    rng, found = random.Random(0), []
    for at, work in enumerate(WORK):
        share = kills // len(WORK) + (at < kills % len(WORK))
        start = time.monotonic()
        found.append(kill(work, folder, folder / work.name, share, rng))
        print(found[-1], f"{time.monotonic() - start:.0f} s", flush=True)
    PAGE.write_text(page(found), encoding="utf-8")


def page(found: list[Killed]) -> str:
    """The table, with when and where."""
    rows = [f"| {k.name} | {k.seconds:.1f} | {k.kills} | {k.late} | {k.ends} | 0 |" for k in found]
    total = sum(k.kills for k in found)
    made = f"{total} kills, {time.strftime('%Y-%m-%d')}, on {fingerprint()}."
    return HEAD + "\n".join(rows) + f"\n\n{made}\n"


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    if len(sys.argv) > 2:
        main(count, Path(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(count, Path(temporary))
