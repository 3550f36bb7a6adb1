"""``quantbench new``: a plugin that works from the start, in a folder of its own.

What is written is ``examples/halfway`` of the clone under another name; a wheel carries the example
beside this file.
"""

from __future__ import annotations

import keyword
import re
import shutil
from pathlib import Path

from quantbench.claims.catalog import read_claims
from quantbench.data.roots import clone_root
from quantbench.errors import BadInput, CannotWrite
from quantbench.quantization.registry import methods

FILES = (
    ".github/workflows/quantbench.yml",
    ".gitignore",
    "README.md",
    "pyproject.toml",
    "quantbench_halfway/__init__.py",
    "quantbench_halfway/halfway.toml",
    "test_halfway.py",
)

# begins with a letter and ends with none but letters and digits, as the name of a package has to
NAME = re.compile(r"[a-z]([a-z0-9_]*[a-z0-9])?")
IMPORTED = ("ClassVar", "Job", "Method")  # a class of these names would hide what it is made of


def new(name: str, parent: Path) -> int:
    """Write ``quantbench-NAME`` below ``parent``.

    Raises:
        BadInput: a name that cannot be a module's, that is taken, or a folder that exists.
        CannotWrite: the system refuses.

    """
    title = "".join(part.title() for part in name.split("_"))
    if not NAME.fullmatch(name) or keyword.iskeyword(name) or title in IMPORTED:
        raise BadInput(f"{name!r} cannot name a method: use lower-case letters, digits and _")
    if name in methods():
        raise BadInput(f"there is a method {name!r} already; quantbench show {name}")
    if name in {claim.paper for claim in read_claims()}:
        raise BadInput(f"there is a paper {name!r} already; quantbench list {name}")
    root = parent / f"quantbench-{name}"
    if root.exists():
        raise BadInput(f"{root} exists; nothing was written")
    try:
        _write(root, {"halfway": name, "Halfway": title})
    except OSError as e:
        shutil.rmtree(root, ignore_errors=True)
        raise CannotWrite(f"cannot write {root}: {e.strerror}; nothing was left behind") from e
    print(f"{root}: the method is {root / f'quantbench_{name}' / '__init__.py'}")
    print(f"next: pip install -e {root} && pytest {root}; {root / 'README.md'} goes on from there")
    return 0


def _write(root: Path, words: dict[str, str]) -> None:
    """Copy the example, with these words for those of its name."""
    carried = Path(__file__).with_name("template")
    example = carried if carried.is_dir() else clone_root() / "examples" / "halfway"
    for file in FILES:
        text = (example / file).read_text(encoding="utf-8")
        path = root / _renamed(file, words)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_renamed(text, words), encoding="utf-8")


def _renamed(text: str, words: dict[str, str]) -> str:
    """In one pass: a new name may have the old one in it."""
    return re.sub("|".join(words), lambda found: words[found[0]], text)
