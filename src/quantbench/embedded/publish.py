"""Put new embedded files under DVC.

Their digests stand in embedded.toml, their content in the clone's remote, its name in data.dvc.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from quantbench.data import manifest
from quantbench.errors import BadInput
from quantbench.system.digests import file_digest

LIMIT = 8_000_000  # bytes that a clone may carry


def publish(clone: Path) -> None:
    """Record and push what lies in ``data/embedded``.

    Raises:
        BadInput: it is larger than a clone should carry.

    """
    folder = clone / "data" / "embedded"
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    total = sum((folder / n).stat().st_size for n in names)
    if total > LIMIT:
        raise BadInput(
            f"the embedded tier has {total} bytes, more than the {LIMIT} that a clone should carry"
        )
    rows = ["# Every file of the embedded tier; written by `python -m quantbench.embedded`.\n"]
    for name in names:
        path = folder / name
        rows.append(f'["embedded/{name}"]\nset = "{belongs(name)}"')
        rows.append(f'sha256 = "{file_digest(path)}"\nbytes = {path.stat().st_size}\n')
    listing = _push(clone)
    table = Path(manifest.__file__).with_name("embedded.toml")
    table.write_text("\n".join(rows), encoding="utf-8")
    _prune(clone / ".dvc" / "embedded" / "files" / "md5", listing)
    print(f"{len(names)} files, {total} bytes")


def _push(clone: Path) -> str:
    """Commit and push the folder with DVC; returns the MD5 of its listing.

    DVC commits a .dvc file only when all its outputs are there, and the real tier need not be:
    meanwhile data.dvc names the folder alone.
    """
    table = clone / "data.dvc"
    before = table.read_text(encoding="utf-8")
    old = _embedded(before)
    env = os.environ | {
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(clone / ".dvc" / "tmp" / "site"),
    }
    after = before
    try:
        table.write_text(yaml.safe_dump({"outs": [old]}), encoding="utf-8")
        for verb in (["commit", "--force"], ["push"]):
            command = [sys.executable, "-m", "dvc", *verb, "data/embedded"]
            subprocess.run(command, cwd=clone, env=env, check=True)
        new = _embedded(table.read_text(encoding="utf-8"))
        for key in ("md5", "size", "nfiles"):
            after = after.replace(f"{key}: {old[key]}\n", f"{key}: {new[key]}\n", 1)
    finally:
        table.write_text(after, encoding="utf-8")
    return str(new["md5"])


def _embedded(table: str) -> dict[str, str]:
    """The folder's entry in data.dvc."""
    return next(o for o in yaml.safe_load(table)["outs"] if o["path"] == "data/embedded")


def _prune(store: Path, listing: str) -> None:
    """Drop what the folder no longer holds: the clone carries one version of its data."""
    rows = json.loads((store / listing[:2] / listing[2:]).read_bytes())
    keep = {listing, *(row["md5"] for row in rows)}
    for path in store.glob("*/*"):
        if path.parent.name + path.name not in keep:
            path.unlink()


def belongs(name: str) -> str:
    """Set that a file belongs to: a split of the images, a checkpoint, or one text."""
    path = Path(name)
    if path.parts[0] == "shapes":
        return f"shapes/{path.parts[1]}"
    return path.stem if path.parts[0] == "checkpoints" else name.partition(".")[0]
