"""Everything with a public source, from there: download, convert, check, put in place."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from quantbench.data.manifest import Entry, members, table, verify
from quantbench.data.roots import data_root
from quantbench.data.sources.download import PATIENCE, FetchFailed, Patience, download
from quantbench.errors import BadInput, DataCorrupt
from quantbench.system.atomic import locked
from quantbench.system.progress import Progress, silent

HOST = "https://raw.githubusercontent.com"

_PARALLEL = 8

_W, _D = "quantbench.data.sources.convert_weights:", "quantbench.data.sources.convert_data:"
_T = "quantbench.data.sources.convert_tensorflow:"
_C = "quantbench.data.sources.convert_coco:"
_S = "quantbench.data.sources.convert_segmentation:"

# Files by the way they are built; the first pattern that matches a name counts.
_BUILDERS: Sequence[tuple[str, str]] = (
    ("checkpoints/imagenet_googlenet_bvlc.safetensors", _W + "caffejs"),
    ("checkpoints/imagenet_mobilenet_v1_025_224.safetensors", _T + "mobilenet_v1"),
    ("checkpoints/imagenet_mobilenet_v1_100_224.safetensors", _T + "mobilenet_v1"),
    ("checkpoints/imagenet_mobilenet_v2_100_224_tf.safetensors", _T + "mobilenet_v2"),
    ("checkpoints/coco_nanodet_m_416.safetensors", _C + "nanodet"),
    ("checkpoints/voc_deeplabv3_mobilenet_v2.safetensors", _S + "deeplab"),
    ("checkpoints/cifar10_", _W + "torch_pickle"),
    ("checkpoints/tinystories_llama_", _W + "llama2c"),
    ("cifar10/calib_4096_index.npy", _D + "cifar_calibration"),
    ("cifar10/train/labels.npy", _D + "cifar_labels"),
    ("cifar10/train/*.webp", _D + "cifar_mosaics"),
    ("coco/val2017_first128_416px.tar", _C + "images"),
    ("coco/val2017_first128_416px_boxes.json", _C + "boxes"),
    ("imagenet/val_1300_227px.tar", _D + "imagenet_val"),
    ("imagenet/val_1300_227px.csv", _D + "imagenet_val_csv"),
    ("imagenet/train_1000_crop224.tar", _D + "imagenet_train"),
    ("imagenet/train_1000_crop224.csv", _D + "imagenet_train_csv"),
    ("voc/voc2012_seg48.tar", _S + "voc_tar"),
    ("voc/voc2012_seg48.csv", _S + "voc_csv"),
    ("coco/coco_val2017_first128_vocmasks100.tar", _S + "coco_masks"),
    ("text/squad_dev", _D + "unzip_json"),
    ("text/squad_train", _D + "zipped"),
    ("text/stsbenchmark/", _D + "copied"),
    ("text/tinystories_tok512.bin", _D + "copied"),
    ("text/wikitext2/", _D + "zipped"),
)


def _builder(entry: Entry) -> str:
    return next(
        (b for pattern, b in _BUILDERS if entry.repository and entry.name.startswith(pattern)), ""
    )


# What can be fetched: every file of sources.toml with a repository, and the function that builds
# it.
FETCHABLE: Mapping[str, str] = {e.name: b for e in table().values() if (b := _builder(e))}


def fetch(
    name: str,
    dest: Path | None = None,
    *,
    base_url: str | None = None,
    progress: Progress = silent,
    patience: Patience = PATIENCE,
) -> list[Path]:
    """Bring a set, a checkpoint or one file from its public source.

    Args:
        name: such as ``cifar10/train``, ``cifar10_resnet20_akamaster``, ``cifar10/test``
            (torchvision's) or ``torchvision/resnet18``.
        dest: data root to fill; by default the one in use.
        base_url: in place of the public host; paths below it are
            ``<owner>/<repository>/<commit>/<path>``.
        progress: called with bytes so far, bytes in all (0 when unknown) and file name.
        patience: time limits.

    Returns:
        the files, checked and in place.

    Raises:
        BadInput: no such name, or it has no public source.
        FetchFailed: the network, the server or the disk; the same command goes on from where this
            one stopped.
        DataCorrupt: what arrived is not what was published; it is removed, and nothing was put in
            place.

    """
    root = dest or data_root()
    if name == "cifar10/test" or name.startswith("torchvision/"):
        from quantbench.data.sources import torchvision

        return torchvision.fetch(
            name, root, base_url=base_url, progress=progress, patience=patience
        )
    entries = [e for e in members(name) if e.name in FETCHABLE]
    if not entries:
        raise BadInput(
            f"{name} has no public source; "
            "point `quantbench data remote <folder>` at a folder that has it"
        )
    staging = root / ".fetch"
    source = Source(root, staging, base_url or HOST, progress, patience)
    with locked(staging):
        paths = [path for entry in entries for path in source.bring(entry)]
        shutil.rmtree(staging, ignore_errors=True)
    return paths


@dataclass(frozen=True)
class Source:
    """Where files come from and are put together; one entry at a time."""

    root: Path
    staging: Path
    base_url: str
    progress: Progress
    patience: Patience
    entry: Entry | None = None

    def __call__(self, *paths: str) -> list[Path]:
        """Download files of the entry's repository, several at a time; those here are kept."""
        assert self.entry is not None
        below = Path(self.entry.repository) / self.entry.commit

        def one(path: str) -> Path:
            url = f"{self.base_url}/{below.as_posix()}/{path}"
            return download(
                url, self.staging / below / path, progress=self.progress, patience=self.patience
            )

        with ThreadPoolExecutor(_PARALLEL) as pool:
            return list(pool.map(one, paths))

    def second(self, below: str = "") -> Path:
        """Download the file of the entry's second source, or one of the folder that it names."""
        assert self.entry is not None
        place, _, path = self.entry.second.partition(":")
        repository, _, commit = place.partition("@")
        there = replace(self, entry=replace(self.entry, repository=repository, commit=commit))
        return there(f"{path}/{below}" if below else path)[0]

    def other(self, name: str) -> Path:
        """Bring another entry that this one is built from."""
        return self.bring(table()[name])[0]

    def bring(self, entry: Entry) -> list[Path]:
        """Build one entry in the staging folder, check it, and move it into place."""
        final = self.root / entry.name
        if "*" not in final.name and final.is_file() and _right(final, entry):
            return [final]
        built = self.staging / "built" / entry.name
        built.parent.mkdir(parents=True, exist_ok=True)
        module, _, function = FETCHABLE[entry.name].partition(":")
        try:
            getattr(importlib.import_module(module), function)(
                replace(self, entry=entry), built, entry.source
            )
            files = sorted(built.parent.glob(built.name))
            _require_published(files, entry)
            final.parent.mkdir(parents=True, exist_ok=True)
            return [path.replace(final.with_name(path.name)) for path in files]
        except DataCorrupt:
            shutil.rmtree(self.staging)  # the next try downloads anew
            raise
        except OSError as e:
            shutil.rmtree(built.parent, ignore_errors=True)
            if e.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise FetchFailed(
                f"the disk is full: {final} could not be written and nothing of it was left"
            ) from e


def _right(path: Path, entry: Entry) -> bool:
    with contextlib.suppress(DataCorrupt):
        verify(path, entry.sha256, entry.content)
        return True
    return False


def _require_published(files: Sequence[Path], entry: Entry) -> None:
    """Raise DataCorrupt unless the built files are those of the table."""
    if entry.decoded:
        from quantbench.data import mosaic, readers
        from quantbench.data.manifest import CIFAR_GRID

        h = hashlib.sha256()
        for path in files:
            tiles = mosaic.split(
                readers.picture(path.read_bytes(), str(path)), CIFAR_GRID, str(path)
            )
            h.update(tiles.tobytes())
        if len(files) != entry.files or h.hexdigest() != entry.decoded:
            raise DataCorrupt(
                f"{entry.name}: the images downloaded are not those that were published; removed"
            )
        return
    for path in files:
        verify(path, entry.sha256, entry.content)
