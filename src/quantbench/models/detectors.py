"""Detectors of torchvision, full-size and small, and their backbone and neck."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.resnet import BasicBlock
from torchvision.ops import MultiScaleRoIAlign

from quantbench.data import torchvision_weights
from quantbench.errors import BadInput
from quantbench.models.checkpoint import checkpoint

CLASSES = {"scenes": 6, "coco": 91}  # with the background

SMALL = 96  # pixels of the small detectors' images

_WIDTHS, _NECK, _HEAD = (16, 24, 48, 80), 40, 96

_SIZES = ((12, 18, 26), (26, 36, 48), (40, 52, 64))  # of the anchors, by level of the pyramid

_NORM = {
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "min_size": SMALL,
    "max_size": SMALL,
}


class SmallBody(nn.Module):
    """A stem and three residual blocks, to strides 4, 8 and 16; children are called one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _WIDTHS[0], 3, 2, 1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(_WIDTHS[0]), nn.ReLU()
        for i, (before, after) in enumerate(pairwise(_WIDTHS), 1):
            shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, 2, bias=False), nn.BatchNorm2d(after)
            )
            self.add_module(f"layer{i}", nn.Sequential(BasicBlock(before, after, 2, shortcut)))


def _small_backbone() -> BackboneWithFPN:
    """The small body under a feature pyramid with strides 8, 16 and 32."""
    return BackboneWithFPN(SmallBody(), {"layer2": "0", "layer3": "1"}, list(_WIDTHS[2:]), _NECK)


def small_retinanet(classes: int) -> nn.Module:
    """RetinaNet for images of 96 pixels; ``classes`` includes the background."""
    anchors = AnchorGenerator(_SIZES, ((1.0,),) * 3)
    made: nn.Module = detection.RetinaNet(
        _small_backbone(), classes, anchor_generator=anchors, **_NORM
    )
    return made


def small_fasterrcnn(classes: int) -> nn.Module:
    """Faster R-CNN for images of 96 pixels; ``classes`` includes the background."""
    made: nn.Module = detection.FasterRCNN(
        _small_backbone(),
        rpn_anchor_generator=AnchorGenerator(_SIZES, ((1.0,),) * 3),
        rpn_pre_nms_top_n_train=200,
        rpn_post_nms_top_n_train=100,
        rpn_pre_nms_top_n_test=100,
        rpn_post_nms_top_n_test=50,
        box_roi_pool=MultiScaleRoIAlign(["0", "1"], 5, 2),
        box_head=TwoMLPHead(_NECK * 25, _HEAD),
        box_predictor=FastRCNNPredictor(_HEAD, classes),
        box_batch_size_per_image=64,
        **_NORM,
    )
    return made


def _full_size(name: str) -> Callable[[int], nn.Module]:
    """A detector of torchvision on ResNet-50, without weights."""

    def build(classes: int) -> nn.Module:
        made: nn.Module = getattr(detection, name)(
            weights=None, weights_backbone=None, num_classes=classes
        )
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0  # the published weights are those of frozen batch norms without it
        return made

    return build


BUILDERS: Mapping[str, Callable[[int], nn.Module]] = {
    "scenes/retinanet": small_retinanet,
    "scenes/fasterrcnn": small_fasterrcnn,
    "coco/retinanet_resnet50_fpn": _full_size("retinanet_resnet50_fpn"),
    "coco/fasterrcnn_resnet50_fpn": _full_size("fasterrcnn_resnet50_fpn"),
}


def pretrained(name: str) -> nn.Module:
    """A detector with its published or embedded weights, in evaluation mode.

    Raises:
        DataMissing: the weights are not here.
        DataCorrupt: they are not what was published.
        BadInput: they are not of this network.

    """
    family, _, network = name.partition("/")
    if family == "coco":
        tensors = torchvision_weights.cached(_published(network), name, network)
    else:
        tensors = checkpoint(f"scenes_{network}")
    model = untrained(name)
    missing = model.load_state_dict(tensors, strict=False)
    wrong = [
        *missing.unexpected_keys,
        *(k for k in missing.missing_keys if not k.endswith("num_batches_tracked")),
    ]
    if wrong:
        raise BadInput(
            f"{name}: its weights are of another network; the first tensors at odds are {wrong[:3]}"
        )
    return model


def untrained(name: str) -> nn.Module:
    """A detector with initial weights, in evaluation mode; no global generator moves."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return BUILDERS[name](CLASSES[name.partition("/")[0]]).eval()


def published_file(name: str) -> str:
    """Name of the file of torchvision's weights of a detector, which holds their digest.

    Raises:
        DataMissing: it is not here.

    """
    network = name.partition("/")[2]
    weights = _published(network)
    torchvision_weights.cached(weights, name, network)
    return str(weights.url.rsplit("/", 1)[-1])


def _published(network: str) -> Any:
    """Torchvision's description of a detector's first weights."""
    return next(iter(torchvision.models.get_model_weights(network)))


class Features(nn.Module):
    """Backbone and neck of a detector as one tensor: all maps, flattened, one after another.

    ``(N, 3, H, W)``, normalized and padded, to ``(N, positions, channels)``.
    """

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.backbone = detector.backbone

    def forward(self, x: Tensor) -> Tensor:
        """All maps."""
        return torch.cat([level.flatten(2) for level in self.backbone(x).values()], 2).mT


class Split(nn.Module):
    """A head's backbone: maps again, from the output of ``features``."""

    def __init__(self, features: Callable[[Tensor], Tensor], backbone: nn.Module) -> None:
        super().__init__()
        self.features = features
        with torch.no_grad():
            maps = backbone(torch.zeros(1, 3, 256, 256, device=next(backbone.parameters()).device))
        self.strides = {name: 256 // level.shape[-1] for name, level in maps.items()}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Maps by level's name; each has ``ceil(size / stride)`` rows and columns."""
        shapes = [
            tuple(-(-side // stride) for side in x.shape[-2:]) for stride in self.strides.values()
        ]
        parts = torch.split(self.features(x), [h * w for h, w in shapes], 1)
        maps = [p.mT.reshape(len(x), -1, *shape) for p, shape in zip(parts, shapes, strict=True)]
        return OrderedDict(zip(self.strides, maps, strict=True))
