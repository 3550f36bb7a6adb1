"""DVC: two remotes behind one call, :func:`ensure`.

One is in the clone (embedded), one is named by the user (real).

DVC costs about a second a call and is asked only when a file is not here yet.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantbench.data import roots
from quantbench.data.manifest import Entry, locate, members, present
from quantbench.errors import BadInput, DataCorrupt, DataMissing
from quantbench.system.progress import Progress, silent

BESIDE = Path("..") / "shared" / "data"  # a plain folder beside the clone, taken without asking


def ensure(
    *wanted: str, say: Callable[[str], object] = print, progress: Progress = silent
) -> list[DataMissing]:
    """Bring data here: what the clone holds always, what a remote holds when it can be reached.

    Without a clone there is nothing to bring: an installed package carries the embedded tier.

    Args:
        wanted: tiers (``embedded``, ``real``), sets, checkpoints or files; everything when empty.
        say: is given one line for each thing that is still missing, with the command that would
            bring it.
        progress: called with (files that are here, files that are brought, label).

    Returns:
        What is still missing, one entry a set.

    Raises:
        BadInput: a name that nothing has.

    """
    entries = {e.name: e for name in (wanted or ("embedded", "real")) for e in members(name)}
    absent = [e for e in entries.values() if not present(e)]
    if absent:
        _pull(absent, progress)
    still = {e.set: e for e in absent if not present(e)}
    missing = [DataMissing(name, _mend(entry)) for name, entry in still.items()]
    for one in missing:
        say(str(one))
    return missing


def _mend(entry: Entry) -> str:
    """What would bring an entry that a pull has not brought."""
    if entry.embedded and roots.in_clone():
        return f"git checkout -- data.dvc .dvc, then {entry.command}"
    return entry.command


def make_remote(folder: Path, *, clone: Path | None = None) -> Path:
    """Make a DVC remote of a plain folder, by links: nothing is copied.

    The outputs of ``data.dvc`` whose remote is ``real`` are looked up in ``folder`` and linked by
    their MD5 into ``.dvc/real``, which is the default address of that remote, and into DVC's cache.

    Args:
        folder: holds ``cifar10/``, ``coco/``, ``imagenet/``, ``checkpoints/`` and so on, as
            ``data.dvc`` names them.
        clone: the clone; that of the working directory by default.

    Raises:
        DataMissing: the folder has none of the files.
        BadInput: there is no clone, and so nothing that a remote would belong to.

    """
    if not clone and not roots.in_clone():
        raise BadInput(
            "a remote belongs to a clone of quantbench, and this is none: "
            f"export QUANTBENCH_DATA={folder} instead"
        )
    root = clone or roots.clone_root()
    stores = [root / ".dvc" / name / "files" / "md5" for name in ("real", "cache")]
    linked = 0
    for out in _outs(root):
        source = folder.resolve() / out.path.relative_to("data")
        if out.remote == "real" and source.exists():
            linked += _link(source, out.md5, stores)
    if not linked:
        raise DataMissing(
            f"any file of the real tier in {folder}", "quantbench data remote <folder>"
        )
    return stores[0].parents[1]


@dataclass(frozen=True)
class _Out:
    """One output of data.dvc."""

    md5: str
    path: Path
    remote: str


def _outs(root: Path) -> list[_Out]:
    import yaml  # type: ignore[import-untyped]

    path = root / "data.dvc"
    try:
        outs = yaml.safe_load(path.read_text(encoding="utf-8"))["outs"]
        return [_out(**{key: o[key] for key in ("md5", "path", "remote")}) for o in outs]
    except (OSError, yaml.YAMLError, ValueError, LookupError, TypeError, RecursionError) as e:
        raise DataCorrupt(f"{path} is damaged ({e}): take it from git again") from e


def _out(md5: str, path: str, remote: str) -> _Out:
    """One output; raises ValueError or TypeError for what DVC does not write."""
    place = Path(path)
    if not re.fullmatch(r"[0-9a-f]{32}(\.dir)?", md5) or ".." in place.parts:
        raise ValueError(f"{path}, md5 {md5}")
    place.relative_to("data")
    return _Out(md5, place, remote)


def _link(source: Path, md5: str, stores: Sequence[Path]) -> bool:
    """Link one file, or a folder's files and DVC's listing of them; false if it differs."""
    if source.is_file():
        found = _md5(source.read_bytes())
        if found == md5:
            _place(source, md5, stores)
        return found == md5
    files = {p.relative_to(source).as_posix(): p for p in sorted(source.rglob("*")) if p.is_file()}
    sums = {name: _md5(path.read_bytes()) for name, path in files.items()}
    listing = json.dumps(
        [{"md5": sums[n], "relpath": n} for n in sorted(files)], sort_keys=True
    ).encode()
    if _md5(listing) + ".dir" != md5:
        return False
    for name, path in files.items():
        _place(path, sums[name], stores)
    _place(listing, md5, stores)
    return True


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _place(content: Path | bytes, md5: str, stores: Iterable[Path]) -> None:
    for store in stores:
        target = store / md5[:2] / md5[2:]
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            continue
        target.unlink(missing_ok=True)  # a link whose file has gone
        if isinstance(content, bytes):
            target.write_bytes(content)
            target.chmod(0o444)
        else:
            target.symlink_to(content)


def _pull(absent: Sequence[Entry], progress: Progress) -> None:
    """Ask DVC for files; silence and absence mean the same to the caller, which looks again."""
    from filelock import FileLock

    root = roots.clone_root()
    if not roots.in_clone():
        return
    outs = _outs(root)
    _link_beside(root, outs, absent)
    targets = sorted({_target(e, outs) for e in absent if _reachable(e, root)} - {""})
    if not targets:
        return
    scratch = root / ".dvc" / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    env = os.environ | {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(scratch / "site")}
    own = [e for e in absent if e.embedded]  # these come, or DVC says why not
    command = [sys.executable, "-m", "dvc", "pull", "--quiet", "--force", *targets]

    def look() -> None:
        progress(sum(locate(e.name).exists() for e in absent), len(absent), "pulling")

    with FileLock(scratch / "quantbench.lock"):
        code, said = _watched(command, root, env, look)
        if code == 0 and not all(map(present, own)):
            # an index of DVC's that a kill left behind may say that all is in place
            shutil.rmtree(scratch / "site", ignore_errors=True)
            code, said = _watched(command, root, env, look)
        if code and (not any(map(present, absent)) or not all(map(present, own))):
            print(said, file=sys.stderr)


def _watched(
    command: Sequence[str], folder: Path, env: Mapping[str, str], look: Callable[[], None]
) -> tuple[int, str]:
    """Exit code of a command, and what it said to stderr; ``look`` is called meanwhile."""
    nowhere = subprocess.DEVNULL
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, cwd=folder, env=env, stdout=nowhere, stderr=said) as ran,
    ):
        try:
            while ran.poll() is None:
                look()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    ran.wait(0.5)
        except KeyboardInterrupt:  # which may have been for this process alone
            ran.terminate()
            raise
        said.seek(0)
        return ran.returncode, said.read().strip()


def _link_beside(root: Path, outs: Sequence[_Out], absent: Sequence[Entry]) -> None:
    """Link the folder beside the clone, if there is one, unless all that is asked for is linked.

    A later version of the clone names files that were not linked for an earlier one.
    """
    linked = root / ".dvc" / "real" / "files" / "md5"
    asked = {_target(e, outs) for e in absent if not e.embedded}
    wanted = [o.md5 for o in outs if o.path.as_posix() in asked]
    if (root / BESIDE).is_dir() and not all((linked / m[:2] / m[2:]).exists() for m in wanted):
        with contextlib.suppress(DataMissing):  # a folder of that name with other things in it
            make_remote(root / BESIDE, clone=root)


def _reachable(entry: Entry, root: Path) -> bool:
    """Embedded files always; real ones from a named remote or a folder that was linked."""
    if entry.embedded:
        return True
    real, local = root / ".dvc" / "real", root / ".dvc" / "config.local"
    return real.exists() or (local.is_file() and '"real"' in local.read_text(encoding="utf-8"))


def _target(entry: Entry, outs: Sequence[_Out]) -> str:
    """The output of data.dvc that holds an entry: the file itself or the folder above it."""
    path = Path("data") / entry.name
    return next((o.path.as_posix() for o in outs if o.path in (path, *path.parents)), "")
