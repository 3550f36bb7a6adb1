"""Which networks were released with BRECQ, MQBench and CalibTIP, by name.

All of them are torchvision's networks with other weights, and some with other names of their
tensors. Nobody may pass the files on, so that they are no part of the data tiers: whoever has them
puts them below ``checkpoints`` of the data root, under the names that their authors gave them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Layout = Literal["torchvision", "sequential", "pycls"]


@dataclass(frozen=True)
class Released:
    """Weights of somebody's, and what they fit.

    Attributes:
        files: names that the authors give the file; the first that is here is read.
        network: torchvision's name; ``regnet_x_600mf`` and ``mnasnet2_0``, which it has no
            function for, are built from its classes.
        published: top-1 on ImageNet's validation set, in percent, as the authors print it.
        layout: how tensors are called: as in torchvision; MobileNetV2 with the layers of a block in
            one sequence (``sequential``); RegNet as in pycls.
        source: where the authors offer the file, or the command of theirs that writes it.

    """

    files: tuple[str, ...]
    network: str
    published: float
    layout: Layout = "torchvision"
    source: str = ""


_BRECQ = "https://github.com/yhhhli/BRECQ/releases/download/v1.0/"

_MQBENCH = "the release page of ModelTC/MQBench, file of the configuration's model.path"

_CALIBTIP = "main.py of itayhubara/CalibTIP with --load-from-vision, below results/"


def _brecq(file: str, network: str, published: float, layout: Layout = "torchvision") -> Released:
    return Released((file,), network, published, layout, _BRECQ + file)


def _mqbench(name: str, network: str, published: float, layout: Layout = "torchvision") -> Released:
    files = (f"{name}.pth.tar", f"{name}.pth", f"{name}.ckpt")
    return Released(files, network, published, layout, _MQBENCH)


def _calibtip(network: str, published: float) -> Released:
    files = (f"{network}.with_bn", f"{network}.absorb_bn")
    return Released(files, network, published, "torchvision", _CALIBTIP)


RELEASED: Mapping[str, Released] = {
    "brecq/resnet18": _brecq("resnet18_imagenet.pth.tar", "resnet18", 71.08),
    "brecq/resnet50": _brecq("resnet50_imagenet.pth.tar", "resnet50", 77.00),
    "brecq/mobilenet_v2": _brecq("mobilenetv2.pth.tar", "mobilenet_v2", 72.49, "sequential"),
    "brecq/regnet600m": _brecq("regnet_600m.pth.tar", "regnet_x_600mf", 73.71, "pycls"),
    "brecq/regnet3200m": _brecq("regnet_3200m.pth.tar", "regnet_x_3_2gf", 78.36, "pycls"),
    "brecq/mnasnet2": _brecq("mnasnet.pth.tar", "mnasnet2_0", 76.68),
    "mqbench/resnet18": _mqbench("resnet18", "resnet18", 71.06),
    "mqbench/resnet50": _mqbench("resnet50", "resnet50", 76.63),
    "mqbench/mobilenet_v2": _mqbench("mobilenet_v2", "mobilenet_v2", 72.68, "sequential"),
    "mqbench/regnet600m": _mqbench("regnetx_600m", "regnet_x_600mf", 73.60, "pycls"),
    "mqbench/regnet800m": _mqbench("regnetx_800m", "regnet_x_800mf", 74.83, "pycls"),
    "calibtip/resnet18": _calibtip("resnet18", 71.97),
    "calibtip/resnet34": _calibtip("resnet34", 73.3),
    "calibtip/resnet50": _calibtip("resnet50", 77.2),
    "calibtip/resnet101": _calibtip("resnet101", 77.3),
    "calibtip/resnext50": _calibtip("resnext50_32x4d", 79.22),
    "calibtip/inception_v3": _calibtip("inception_v3", 77.4),
    "calibtip/mobilenet_v2": _calibtip("mobilenet_v2", 71.9),
}

FAMILIES = ("brecq", "mqbench", "calibtip")
