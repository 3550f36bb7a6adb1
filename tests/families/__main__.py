"""python -m tests.families [ROWS] [LABEL ...]: look at networks and write the page.

Finished rows are kept in ROWS, a file of one JSON line each, and not made again.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from tests.families.survey import Row, look
from tests.families.table import page, require_right
from tests.families.zoo import MEMBERS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "families.md"


def main(kept: Path, labels: list[str]) -> None:
    """Look at what is not in the file yet, then write the page."""
    torch.set_num_threads(1)
    rows = (
        [Row(**json.loads(line)) for line in kept.read_text().splitlines()] if kept.exists() else []
    )
    kept.parent.mkdir(parents=True, exist_ok=True)
    done = {row.label for row in rows}
    by_label = {member.label: member for member in MEMBERS}
    for member in (by_label[label] for label in labels or by_label):
        if member.label not in done:
            rows.append(look(member))
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(rows[-1])) + "\n")
            print(member.label, f"{rows[-1].seconds:.0f} s", flush=True)
    PAGE.write_text(page(rows), encoding="utf-8")
    require_right(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
