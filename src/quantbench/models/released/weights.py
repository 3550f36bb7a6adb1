"""Released checkpoints as tensors under torchvision's names; nothing in a file is executed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quantbench.data import torch_file
from quantbench.data.manifest import locate
from quantbench.errors import DataCorrupt, DataMissing
from quantbench.models.released.catalog import RELEASED, Layout, Released
from quantbench.system.digests import file_digest

_WRAPPERS = ("state_dict", "model")  # what a file may hold the tensors under

_QUANTIZERS = re.compile(r"\.(quantize_\w+|equ_scale|num_bits\w*|measure\w*)(\.|$)")

# the parameters of RegNetX that torchvision has no function for
_REGNETS: Mapping[str, Mapping[str, Any]] = {
    "regnet_x_600mf": {"depth": 16, "w_0": 48, "w_a": 36.97, "w_m": 2.24, "group_width": 24}
}

_Replacement = str | Callable[[re.Match[str]], str]

_PYCLS: tuple[tuple[str, _Replacement], ...] = (
    (r"^stem\.conv\.", "stem.0."),
    (r"^stem\.bn\.", "stem.1."),
    (r"^head\.fc\.", "fc."),
    (r"^s(\d+)\.b(\d+)\.", lambda m: f"trunk_output.block{m[1]}.block{m[1]}-{int(m[2]) - 1}."),
    (r"(block\d+-\d+)\.proj\.", r"\1.proj.0."),
    (r"(block\d+-\d+)\.bn\.", r"\1.proj.1."),
    (r"\.f\.([abc])\.", r".f.\1.0."),
    (r"\.f\.([abc])_bn\.", r".f.\1.1."),
)

_EXPANDED = {0: "0.0", 1: "0.1", 3: "1.0", 4: "1.1", 6: "2", 7: "3"}  # MobileNetV2's layers

_PLAIN = {0: "0.0", 1: "0.1", 3: "1", 4: "2"}  # of the block that does not expand


def path(name: str) -> Path:
    """The file of a released network: below the data root, or where ``torch.hub`` puts it.

    Raises:
        DataMissing: it is in neither place; says where it comes from.

    """
    found, family = RELEASED[name], name.partition("/")[0]
    hub = Path(torch.hub.get_dir()) / "checkpoints"
    for file in found.files:
        for place in (locate(f"checkpoints/{family}/{file}"), hub / file):
            if place.is_file():
                return place
    target = locate(f"checkpoints/{family}/{found.files[0]}")
    link = found.source.startswith("https://")
    raise DataMissing(
        name,
        f"curl --create-dirs -Lo {target} {found.source}"
        if link
        else f"put the file there as {target} (from {found.source})",
    )


def digest(name: str) -> str:
    """Sha256 of its file; raises as :func:`path`."""
    return file_digest(path(name))


def read(name: str) -> dict[str, Tensor]:
    """Tensors under the names of :func:`network`'s.

    Raises:
        DataMissing: the file is not here.
        DataCorrupt: it is broken, holds anything but tensors, or no tensors by name.

    """
    file, found = path(name), RELEASED[name]
    tensors = _unwrapped(torch_file.read(file), file)
    named = {_RENAME[found.layout](key, tensors): t for key, t in tensors.items()}
    return _with_batch_norm(named, found)


def network(found: Released) -> nn.Module:
    """What the weights fit, as :func:`quantbench.models.torchvision.classifier` builds it."""
    from quantbench.models import torchvision as zoo

    return zoo.classifier(found.network, _BUILDERS.get(found.network))


def _unwrapped(content: Any, file: Path) -> dict[str, Tensor]:
    """Tensors by name, without those of quantizers and the prefix that parallel training adds."""
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = dict(content) if isinstance(content, Mapping) else {}
    if not tensors or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise DataCorrupt(
            f"{file} holds no state dict: tensors by name, or those under 'state_dict'"
        )
    return {
        key.removeprefix("module."): t for key, t in tensors.items() if not _QUANTIZERS.search(key)
    }


def _sequential(key: str, tensors: Mapping[str, Tensor]) -> str:
    """MobileNetV2's layer ``conv.6`` as torchvision's ``conv.2``."""
    if not (found := re.match(r"((?:module\.)?features\.\d+\.conv\.)(\d+)(\..+)", key)):
        return key
    expands = f"{found[1]}6.weight" in tensors
    return found[1] + (_EXPANDED if expands else _PLAIN).get(int(found[2]), found[2]) + found[3]


def _pycls(key: str, _: Mapping[str, Tensor]) -> str:
    for pattern, replacement in _PYCLS:
        key = re.sub(pattern, replacement, key)
    return key


def _same(key: str, _: Mapping[str, Tensor]) -> str:
    return key


_RENAME: Mapping[Layout, Callable[[str, Mapping[str, Tensor]], str]] = {
    "torchvision": _same,
    "sequential": _sequential,
    "pycls": _pycls,
}


def _with_batch_norm(tensors: dict[str, Tensor], found: Released) -> dict[str, Tensor]:
    """Batch norm that does nothing but add a convolution's bias, where it was folded away.

    CalibTIP saves its networks so. A batch norm follows its convolution in torchvision's modules.
    """
    own = dict(network(found).named_modules())
    names = list(own)
    for i, name in enumerate(names[:-1]):
        conv, norm = own[name], own[names[i + 1]]
        if not (isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)):
            continue
        bias, after = tensors.pop(f"{name}.bias", None), names[i + 1]
        if bias is not None and f"{after}.weight" not in tensors:
            one, zero = torch.ones_like(bias), torch.zeros_like(bias)
            given = {"weight": one, "bias": bias, "running_mean": zero}
            given["running_var"] = one - norm.eps
            tensors |= {f"{after}.{part}": t for part, t in given.items()}
    return tensors


def _regnet(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torchvision.models.regnet import BlockParams, RegNet

        model: nn.Module = RegNet(BlockParams.from_init_params(**_REGNETS[name]))
        return model

    return build


def _mnasnet() -> nn.Module:
    from torchvision.models.mnasnet import MNASNet

    model: nn.Module = MNASNet(2.0)
    return model


_BUILDERS: Mapping[str, Callable[[], nn.Module]] = {
    **{name: _regnet(name) for name in _REGNETS},
    "mnasnet2_0": _mnasnet,
}
