"""Networks of timm, with weights from Hugging Face's cache."""

from __future__ import annotations

from typing import Any

import torch

from quantbench.errors import BadInput, DataMissing, did_you_mean
from quantbench.network.sources.found import Found, fill, library, made, noise


def find(name: str, generator: torch.Generator | None) -> Found:
    """A network of timm, with weights from Hugging Face's cache."""
    timm = library("timm", "timm")
    if name.partition(".")[0] not in timm.list_models():
        raise BadInput(f"no timm network {name!r}{did_you_mean(name, timm.list_models())}")
    model = made(lambda: timm.create_model(name, pretrained=False), generator)
    about: Any = model.pretrained_cfg
    if generator is None:
        from huggingface_hub import try_to_load_from_cache
        from safetensors.torch import load_file

        place = about.get("hf_hub_id")
        path = place and try_to_load_from_cache(place, "model.safetensors")
        if not isinstance(path, str):
            call = f"timm.create_model('{name}', pretrained=True)"
            raise DataMissing(f"timm/{name}", f'python -c "import timm; {call}"')
        fill(model, load_file(path))
    return Found(model, noise(2, *about["input_size"]))
