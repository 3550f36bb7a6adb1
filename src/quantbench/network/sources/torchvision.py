"""Networks of torchvision, with weights from torch's cache of downloads."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quantbench.errors import BadInput, DataCorrupt, DataMissing, did_you_mean
from quantbench.network.sources.found import Found, fill, made, noise, size
from quantbench.system.digests import file_digest


class Scores(nn.Module):
    """A detector up to what its boxes are made of: what the head says of each level of features.

    Behind it values decide, which boxes stay and which parts are looked at again: that is no
    function that a program has. Nor is the detector's own resizing of images in it.

    Args:
        detector: of torchvision.

    """

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.backbone = detector.backbone
        self.head = getattr(detector, "rpn", detector).head  # of two stages the first

    def forward(self, x: Tensor) -> dict[str, list[Tensor]]:
        """``scores`` and ``boxes``, a list of levels each; of some heads the levels are joined."""
        features = self.backbone(x)
        levels = list(features.values()) if isinstance(features, dict) else [features]
        found = self.head(levels)
        if isinstance(found, dict):
            return {"scores": [found["cls_logits"]], "boxes": [found["bbox_regression"]]}
        return {"scores": found[0], "boxes": found[1]}


SCORES = ("scores", 0)  # which output of a detector is looked at unless the user says so


def find(name: str, generator: torch.Generator | None) -> Found:
    """A network of torchvision, with the first of its published weights unless others are named.

    Of a detector it is the ``Scores``.
    """
    from torchvision import models

    plain, _, version = name.partition("@")
    known = models.list_models()
    if plain not in known:
        raise BadInput(f"no torchvision network {plain!r}{did_you_mean(plain, known)}")
    versions = {w.name: w for w in models.get_model_weights(plain)}
    if version and version not in versions:
        raise BadInput(f"no weights {version!r} of {plain}{did_you_mean(version, versions)}")
    weights = versions[version] if version else next(iter(versions.values()))
    side = size(getattr(weights.transforms(), "crop_size", 224))
    given = {"weights": None, "num_classes": len(weights.meta.get("categories", ())) or None}
    given = {k: v for k, v in given.items() if k == "weights" or v}
    if "weights_backbone" in signature(models.get_model_builder(plain)).parameters:
        given["weights_backbone"] = None
    if plain in ("googlenet", "inception_v3"):
        given |= {"init_weights": True, "aux_logits": True}
    model = made(lambda: models.get_model(plain, **given), generator)
    if generator is None:
        call = f"get_model('{plain}', weights='{weights.name}')"
        command = f'python -c "from torchvision.models import get_model; {call}"'
        fill(model, _hub_file(weights.url, f"torchvision/{name}", command))
    if plain in models.list_models(module=models.detection):
        resizing: Any = model.transform  # which is left out
        return Found(Scores(model), noise(2, 3, *(resizing.fixed_size or side)), SCORES)
    output = "out" if plain in models.list_models(module=models.segmentation) else None
    return Found(model, noise(2, 3, *side), output)


def _hub_file(url: str, name: str, command: str) -> dict[str, Tensor]:
    """Tensors from torch's cache of downloads, checked by the digest in the file's name."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not path.is_file():
        raise DataMissing(name, command)
    prefix, digest = path.stem.rpartition("-")[2], file_digest(path)
    if not digest.startswith(prefix):
        raise DataCorrupt(f"{path} has sha256 {digest}, not {prefix}...: delete it, get it again")
    tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return tensors
