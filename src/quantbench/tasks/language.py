"""Language modelling as a task: how probable a model finds each next token of a text."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from quantbench.data.images import file
from quantbench.data.text import STORIES, STORIES_WORDS, text_file
from quantbench.errors import BadInput
from quantbench.system.digests import file_digest
from quantbench.tasks.texts import device_of, subwords

if TYPE_CHECKING:
    from quantbench.network.network import Network
    from quantbench.system.tensors import Inputs

BATCH = 16

# a part of a text, its windows evenly spread: what a quantized network costs shows on few of them
PARTS = {"wikitext2/test_128": ("wikitext2/test", 128)}

HEADS = 8  # of llama2.c's stories260K, which its weights do not say

CONTEXT = 512  # tokens that it was trained on

STORY_ENDS = "<|endoftext|>"  # in the files of TinyStories


def stories(model: str, eval_data: str) -> LanguageModelling:
    """The task of the small model that was trained on TinyStories.

    Raises:
        BadInput: another network.

    """
    if model != "tinystories/llama-260k":
        raise BadInput(f"language model {model!r}: choose tinystories/llama-260k")
    return LanguageModelling(model, eval_data)


@dataclass(frozen=True)
class LanguageModelling:
    """Log-likelihood of the next token, over all windows of a text.

    Perplexity is exp(-score / 100) where the score is in points, hundredths of a nat per token; so
    a drop of one point raises perplexity by one percent. Windows follow each other without overlap,
    as in the evaluations of GPTQ and llama2.c: their first token is given, what is left at the end
    of the text is dropped.

    Attributes:
        model: network name.
        eval_data: name of a text.
        metric: mean over windows, which all have as many tokens.
        length: tokens of a window; the model was trained on 512, and half of that takes half of
            attention's time.

    """

    model: str
    eval_data: str
    metric: str = "log_likelihood"
    length: int = 256

    def digests(self, calib: str) -> tuple[str, str, str]:
        """See :class:`quantbench.tasks.task.Task`; the vocabulary is part of the checkpoint."""
        own = [file_digest(file(name)) for name in (STORIES, STORIES_WORDS)]
        calibrated = text_file(calib)[1] if calib else ""
        weights = hashlib.sha256("".join(own).encode()).hexdigest()
        whole, _ = PARTS.get(self.eval_data, (self.eval_data, 0))
        return weights, calibrated, text_file(whole)[1]

    def network(self) -> Network:
        """See :class:`quantbench.tasks.task.Task`."""
        import torch
        from safetensors.torch import load_file

        from quantbench.models.llama import language_model, language_network

        model = language_model(load_file(file(STORIES)), HEADS, CONTEXT)
        sample = torch.from_numpy(self.windows(self.eval_data)[:2])
        return language_network(model, (sample,), self.model)

    def windows(self, name: str) -> np.ndarray:
        """Token numbers of a text, (windows, length), int64."""
        whole, count = PARTS.get(name, (name, 0))
        found = _windows(whole, self.length)
        return found[np.linspace(0, len(found) - 1, count).astype(int)] if count else found

    def calibration(self, name: str, n: int, seed: int) -> Inputs:
        """``n`` windows, drawn without replacement."""
        import torch

        found = self.windows(name)
        if not 0 < n <= len(found):
            raise BadInput(f"{n} calibration windows of {name}: it has {len(found)}")
        chosen = np.random.default_rng(seed).permutation(len(found))[:n]
        return (torch.from_numpy(found[chosen]),)

    def scores(self, model: Callable[..., Any]) -> np.ndarray:
        """Mean log-likelihood of each window's tokens but the first, in nats; at most 0."""
        import torch

        windows, out = self.windows(self.eval_data), []
        with torch.no_grad():
            for start in range(0, len(windows), BATCH):
                ids = torch.from_numpy(windows[start : start + BATCH]).to(device_of(model))
                log_p = model(ids)[:, :-1].float().log_softmax(-1)
                found = log_p.gather(2, ids[:, 1:, None])[..., 0].double().mean(1)
                out.append(found.float().cpu().numpy())
        return np.concatenate(out)

    def gold(self) -> None:
        """No rank correlation here."""


@functools.lru_cache(maxsize=4)
def _windows(name: str, length: int) -> np.ndarray:
    """Documents one after the other, each behind the token that begins one, cut to windows.

    Raises:
        BadInput: the text is shorter than one window.

    """
    words, ids = subwords(file(STORIES_WORDS)), []
    for document in text_file(name)[0].split(STORY_ENDS):
        ids += [words.BEGIN, *words.encode(document.strip())] if document.strip() else []
    count = len(ids) // length
    if not count:
        raise BadInput(f"{name} has {len(ids)} tokens, less than a window of {length}")
    return np.array(ids[: count * length], np.int64).reshape(count, length)
