"""python -m tests.reliability.fuzz.guided LOADER SECONDS FOLDER CODE: one loader, led by coverage.

It ends with another code than 0, and leaves the bytes in the folder, where the loader does not hold
what it must.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

LARGEST = 1 << 16  # bytes of an input
MEMORY = 4096  # MiB


def main(name: str, seconds: int, folder: Path, code: str) -> None:
    """Begin with the files that are right; coverage is that of a package."""
    seeds = folder / "seeds"
    seeds.mkdir(parents=True)
    with atheris.instrument_imports(include=[code]):
        from tests.reliability.fuzz.judge import LONGEST, Watch, accepted, met
        from tests.reliability.fuzz.loaders import LOADERS

        loader = next(found for found in LOADERS if found.name == name)
        watch = Watch(folder / "work")
        for number, content in enumerate(loader.seeds()):
            (seeds / str(number)).write_bytes(content)
            met(loader, content, watch.folder)
    options = {
        "max_total_time": seconds,
        "timeout": 2 * LONGEST,
        "max_len": LARGEST,
        "rss_limit_mb": MEMORY,
        "print_final_stats": 1,
        "artifact_prefix": f"{folder}/found-",
    }
    words = [f"-{key}={value}" for key, value in options.items()]
    atheris.Setup([sys.argv[0], *words, str(seeds)], lambda data: accepted(loader, data, watch))
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
