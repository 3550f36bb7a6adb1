"""What torchvision publishes: CIFAR-10 and weights, through the same resuming download."""

from __future__ import annotations

from pathlib import Path

from quantbench.data.archives import members
from quantbench.data.sources.download import Patience, download
from quantbench.errors import DataCorrupt
from quantbench.system.atomic import write_atomically
from quantbench.system.digests import file_digest
from quantbench.system.progress import Progress


def fetch(
    name: str, root: Path, *, base_url: str | None, progress: Progress, patience: Patience
) -> list[Path]:
    """Bring ``cifar10/test`` below ``root``, or ``torchvision/<network>`` to torch's cache.

    Raises:
        BadInput: torchvision has no such network.
        FetchFailed: the network, the server or the disk.
        DataCorrupt: a digest differs; the download is removed.

    """
    if name.startswith("torchvision/"):
        return [_weights(name.removeprefix("torchvision/"), base_url, progress, patience)]
    return [_cifar(root, base_url, progress, patience)]


def _cifar(root: Path, base_url: str | None, progress: Progress, patience: Patience) -> Path:
    from torchvision.datasets import CIFAR10

    url = f"{base_url}/{CIFAR10.filename}" if base_url else CIFAR10.url
    archive = download(url, root / CIFAR10.filename, progress=progress, patience=patience)
    found = file_digest(archive, "md5")
    if found != CIFAR10.tgz_md5:
        archive.unlink()
        raise DataCorrupt(
            f"{url} has MD5 {found}, not {CIFAR10.tgz_md5} as torchvision says; removed"
        )
    folder = root / str(CIFAR10.base_folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in members(archive):
        write_atomically(folder / Path(name).name, content)
    archive.unlink()
    return folder


def _weights(name: str, base_url: str | None, progress: Progress, patience: Patience) -> Path:
    import torch

    from quantbench.data import torchvision_weights

    url = str(torchvision_weights.weights_of(name).url)
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    download(
        f"{base_url}/{path.name}" if base_url else url, path, progress=progress, patience=patience
    )
    try:
        torchvision_weights.read(name)
    except DataCorrupt:
        path.unlink()
        raise
    return path
