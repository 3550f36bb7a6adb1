"""Every network by name: how it is built, its weights, its data and its blocks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from quantbench.errors import BadInput, did_you_mean
from quantbench.models.preprocess import Preprocess
from quantbench.models.released.catalog import RELEASED

_IMAGENET_NORM = Preprocess((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

_APOT_NORM = Preprocess((0.491, 0.482, 0.447), (0.247, 0.243, 0.262))

_HALF_NORM = Preprocess((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

_DEEPLAB_NORM = Preprocess((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), scale=127.5)

_LITE_NORM = Preprocess((127.0, 127.0, 127.0), (128.0, 128.0, 128.0), scale=1.0)

_NANODET_NORM = Preprocess((103.53, 116.28, 123.675), (57.375, 57.12, 58.395), scale=1.0, bgr=True)

_CAFFE_NORM = Preprocess((104.0, 117.0, 123.0), (1.0, 1.0, 1.0), scale=1.0, bgr=True)


@dataclass(frozen=True)
class ModelSpec:
    """A network, its weights, and what they are measured on.

    Attributes:
        name: such as ``cifar10/resnet20``.
        checkpoint: name for :func:`quantbench.models.checkpoint.checkpoint`, or the file in
            torchvision's cache. One without an entry in the table of data ends in its digest.
        preprocess: uint8 pixels to network input.
        eval_data: image set whose accuracy is reported.
        calib_data: image set for calibration.
        blocks: class names of the units of block reconstruction, which
            :func:`quantbench.models.loading.block_names` finds.
        published: top-1, or mean IoU, in percent on the full test or validation set, or None.
        source: who published the weights and the number.
        family: its class by name, one of those that ``quantbench.models.loading`` lists, or
            ``torchvision``.
        arguments: keyword arguments of the class, as pairs.
        size: height and width of the input, in pixels.

    """

    name: str
    checkpoint: str
    preprocess: Preprocess
    eval_data: str
    calib_data: str
    blocks: tuple[str, ...]
    published: float | None
    source: str
    family: str
    arguments: tuple[tuple[str, Any], ...] = ()
    size: int = 32


_cifar10 = partial(
    ModelSpec,
    eval_data="cifar10/test",
    calib_data="cifar10/calib_4096",
    blocks=("BasicBlock",),
)

_imagenet = partial(
    ModelSpec, eval_data="imagenet/val_1300", calib_data="imagenet/train_1000", size=224
)


def _akamaster(depth: int, published: float) -> ModelSpec:
    return _cifar10(
        name=f"cifar10/resnet{depth}",
        checkpoint=f"cifar10_resnet{depth}_akamaster",
        preprocess=_IMAGENET_NORM,  # the source uses ImageNet's on CIFAR-10
        published=published,
        source="akamaster/pytorch_resnet_cifar10, README",
        family="CifarResNet",
        arguments=(("depth", depth),),
    )


def _apot(suffix: str, published: float) -> ModelSpec:
    return _cifar10(
        name=f"cifar10/resnet20-apot{suffix}",
        checkpoint="cifar10_resnet20_apot" + (suffix.replace("-", "_") or "_fp32"),
        preprocess=_APOT_NORM,
        published=published,
        source="yhhhli/APoT_Quantization, README of CIFAR10",
        family="ApotResNet20",
    )


def _googlenet_bvlc() -> ModelSpec:
    return _imagenet(
        name="imagenet/googlenet-bvlc",
        checkpoint="imagenet_googlenet_bvlc",
        preprocess=_CAFFE_NORM,
        blocks=("Inception",),
        published=68.7,
        source="Caffe model zoo, bvlc_googlenet",
        family="GoogLeNet",
    )


def _mobilenet_v1(width: str, published: float | None = None) -> ModelSpec:
    return _imagenet(
        name=f"imagenet/mobilenetv1-{width}",
        checkpoint=f"imagenet_mobilenet_v1_{round(100 * float(width)):03d}_224",
        preprocess=_HALF_NORM,
        blocks=("DepthwiseSeparable",),
        published=published,
        source="tensorflow/models, research/slim/nets/mobilenet_v1.md; the weights are Keras's",
        family="MobileNetV1",
        arguments=(("width", float(width)),),
    )


def _mobilenet_v2() -> ModelSpec:
    return _imagenet(
        name="imagenet/mobilenetv2-1.0",
        checkpoint="imagenet_mobilenet_v2_100_224_tf",
        preprocess=_HALF_NORM,
        blocks=("InvertedResidual",),
        published=71.8,
        source="tensorflow/models, research/slim/nets/mobilenet/README.md",
        family="MobileNetV2",
    )


def _efficientnet_lite0() -> ModelSpec:
    return _imagenet(
        name="imagenet/efficientnet-lite0",
        checkpoint="efficientnet-lite0-57934424",
        preprocess=_LITE_NORM,
        blocks=("InvertedResidual",),
        published=75.1,
        source="tensorflow/tpu, models/official/efficientnet/lite/README.md",
        family="EfficientNetLite0",
    )


def _deeplab() -> ModelSpec:
    return ModelSpec(
        name="voc/deeplabv3-mobilenetv2",
        checkpoint="voc_deeplabv3_mobilenet_v2",
        preprocess=_DEEPLAB_NORM,
        eval_data="voc/seg48",
        calib_data="coco/seg100",
        blocks=("InvertedResidual",),
        published=80.25,
        source="tensorflow/models, research/deeplab/g3doc/model_zoo.md; the test set of VOC 2012",
        family="DeepLabV3",
        size=513,
    )


def _nanodet() -> ModelSpec:
    return ModelSpec(
        name="coco/nanodet-m-416",
        checkpoint="coco_nanodet_m_416",
        preprocess=_NANODET_NORM,
        eval_data="coco/first128_eval",
        calib_data="coco/first128_calib",
        blocks=("ShuffleUnit", "Head"),
        published=None,  # no top-1: mean average precision is a claim
        source="RangiLyu/nanodet, README",
        family="NanoDetM",
        arguments=(("size", 416),),
        size=416,
    )


def _shapes(name: str, block: str, family: str, **arguments: int) -> ModelSpec:
    return ModelSpec(
        name=f"shapes/{name}",
        checkpoint=f"shapes_{name}",
        preprocess=_HALF_NORM,
        eval_data="shapes/test",
        calib_data="shapes/calib",
        blocks=(block,),
        published=None,
        source="trained by this project on images that it renders",
        family=family,
        arguments=tuple(arguments.items()),
    )


_FIXED = (
    *(_akamaster(20, 91.73), _akamaster(32, 92.63), _akamaster(44, 93.10), _akamaster(56, 93.39)),
    *(_apot("", 92.96), _apot("-w4a4", 92.45), _apot("-w3a3", 92.49), _apot("-w2a2", 90.96)),
    *(_googlenet_bvlc(), _mobilenet_v1("0.25", 49.8), _mobilenet_v1("1.0", 70.9)),
    *(_mobilenet_v2(), _efficientnet_lite0(), _deeplab(), _nanodet()),
    _shapes("resnet8", "BasicBlock", "CifarResNet", depth=8),
    _shapes("mobilenet", "DepthwiseSeparable", "ShapesMobileNet"),
)

# the fixed names; spec() also knows open families:
MODELS: Mapping[str, ModelSpec] = {s.name: s for s in _FIXED}

PATTERNS = ("imagenet/mobilenetv1-<width>", "torchvision/<network>[@<weights>]", *RELEASED)


def spec(name: str) -> ModelSpec:
    """Look a network up.

    Besides :data:`MODELS`: ``imagenet/mobilenetv1-<width>`` of any width, any classification
    network of torchvision, such as ``torchvision/resnet18`` or
    ``torchvision/resnet50@IMAGENET1K_V2``, and what other papers' authors released, such as
    ``brecq/resnet18``.

    Raises:
        BadInput: no such name; says which come close.

    """
    if name in MODELS:
        return MODELS[name]
    if width := re.fullmatch(r"imagenet/mobilenetv1-(\d+(?:\.\d+)?)", name):
        return _mobilenet_v1(width[1])
    if name.startswith("torchvision/"):
        return _torchvision(name.removeprefix("torchvision/"))
    if name in RELEASED:
        return _released(name)
    raise BadInput(f"no model {name!r}{did_you_mean(name, (*MODELS, *PATTERNS))}")


def _torchvision(name: str) -> ModelSpec:
    from quantbench.data import torchvision_weights
    from quantbench.models import torchvision as zoo

    network, weights = name.partition("@")[0], torchvision_weights.weights_of(name)
    preset = weights.transforms()
    size, scaled = preset.crop_size[0], preset.resize_size[0]
    # The Inceptions take (x - 0.5) / 0.5; torchvision converts to that inside the network, this
    # project before it.
    normal = (
        _HALF_NORM
        if network in zoo.WITH_AUXILIARY
        else Preprocess(tuple(preset.mean), tuple(preset.std))
    )
    return ModelSpec(
        name=f"torchvision/{name}",
        checkpoint=weights.url.rsplit("/", 1)[-1],
        preprocess=normal,
        eval_data="imagenet/val"
        if (scaled, size) == (256, 224)
        else f"imagenet/val_{scaled}_{size}",
        calib_data="imagenet/train_1000",
        blocks=zoo.BLOCKS,
        published=weights.meta["_metrics"]["ImageNet-1K"]["acc@1"],
        source=f"torchvision, {weights}",
        family="torchvision",
        arguments=(("network", network),),
        size=size,
    )


def _released(name: str) -> ModelSpec:
    from quantbench.models import torchvision as zoo

    found = RELEASED[name]
    inception = found.network in zoo.WITH_AUXILIARY
    return _imagenet(
        name=name,
        checkpoint=found.files[0],
        preprocess=_HALF_NORM if inception else _IMAGENET_NORM,
        eval_data="imagenet/val_342_299" if inception else "imagenet/val",
        blocks=zoo.BLOCKS,
        published=found.published,
        source=found.source,
        family="released",
        arguments=(("found", found),),
        size=299 if inception else 224,
    )
