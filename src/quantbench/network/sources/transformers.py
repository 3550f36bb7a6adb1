"""Networks of transformers, from folders and Hugging Face's cache."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quantbench.errors import BadInput, DataCorrupt, DataMissing
from quantbench.network.layers import LAYERS
from quantbench.network.sources.found import Found, library, made, noise, size

TOKENS = 16  # of a text sample


def find(name: str, generator: torch.Generator | None) -> Found:
    """A network of transformers from a folder or Hugging Face's cache; safetensors alone."""
    from safetensors import SafetensorError

    transformers = library("transformers", "transformers")
    local: Mapping[str, Any] = {"local_files_only": True}
    folder = Path(name)
    where = folder.is_dir()
    missing = DataMissing(f"transformers/{name}", f"hf download {name}")
    try:
        config = transformers.AutoConfig.from_pretrained(name, **local)
    except (OSError, ValueError) as e:
        raise BadInput(f"{folder}: no network of transformers: {e}") if where else missing from e
    kind = next(iter(config.architectures or ()), None)
    cls = getattr(transformers, kind or "AutoModel", None)
    if cls is None:
        raise BadInput(f"transformers/{name}: this version of transformers has no {kind}")
    if generator is not None:
        make = getattr(cls, "from_config", cls)
        model = made(lambda: make(config), generator)
    else:
        try:
            model = cls.from_pretrained(name, use_safetensors=True, dtype=torch.float32, **local)
        except SafetensorError as e:
            raise DataCorrupt(f"transformers/{name}: {e}") from e
        except (OSError, ValueError) as e:
            raise DataCorrupt(f"{folder}: {e}") if where else missing from e
    kinds = (*LAYERS, nn.Embedding)
    return Found(model, _example(model, config), _first_output(model), kinds)


def _example(model: Any, config: Any) -> dict[str, Tensor]:
    """Noise for a network of transformers, by the names of its arguments."""
    if model.main_input_name == "pixel_values":
        side = size(config.image_size)
        return {"pixel_values": noise(2, getattr(config, "num_channels", 3), *side)}
    if model.main_input_name != "input_ids":
        raise BadInput(f"{type(model).__name__} takes {model.main_input_name}: give a sample")
    rng = torch.Generator().manual_seed(0)
    ids = torch.randint(1, config.vocab_size, (2, TOKENS), generator=rng)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _first_output(model: Any) -> str | None:
    """Which output is looked at unless the user says so; ``None`` where no one is the answer."""
    name = type(model).__name__
    heads = ("ForSequence", "ForToken", "ForCausal", "ForMasked", "ForImage", "ForSemantic")
    if any(head in name for head in heads):
        return "logits"
    return None if "For" in name else "last_hidden_state"
