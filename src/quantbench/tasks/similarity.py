"""Sentence similarity as a task, by rank correlation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from quantbench.data.text import MINILM, minilm_folder
from quantbench.errors import BadInput
from quantbench.tasks.texts import device_of, pairs, tokenizer_of

if TYPE_CHECKING:
    from quantbench.network.network import Network
    from quantbench.system.tensors import Inputs


BATCH = 32

LENGTH = 256  # tokens of a sentence, as the model was measured

CALIBRATION_LENGTH = 16  # tokens; half of the training sentences have 12, a quarter 16 or more


def minilm(model: str, eval_data: str) -> Similarity:
    """The task of the encoder that a package holds.

    Raises:
        BadInput: another network.

    """
    if model != "stsb/minilm":
        raise BadInput(f"text model {model!r}: choose stsb/minilm")
    return Similarity(model, eval_data)


@dataclass(frozen=True)
class Similarity:
    """Semantic textual similarity: cosine of mean-pooled embeddings against people's."""

    model: str
    eval_data: str
    metric: str = "spearman"

    def digests(self, calib: str) -> tuple[str, str, str]:
        """See :class:`quantbench.tasks.task.Task`; the weights are the package's, checked."""
        calibrated = pairs(calib).digest if calib else ""
        evaluated = pairs(self.eval_data).digest
        minilm_folder()
        return MINILM, calibrated, evaluated

    def network(self) -> Network:
        """See :class:`quantbench.tasks.task.Task`."""
        from transformers import AutoModel

        from quantbench.models.bert import Encoder, encoder_network

        bert = AutoModel.from_pretrained(
            minilm_folder(), local_files_only=True, attn_implementation="eager"
        ).eval()
        sample = self.encoded(pairs(self.eval_data).first[:2])
        return encoder_network(Encoder(bert), sample, self.model)

    def calibration(self, name: str, n: int, seed: int) -> Inputs:
        """First sentences of ``n`` pairs, drawn without replacement, none of them padded.

        Ranges and reconstruction see every token alike, and padded to the longest sentence two
        thirds of all tokens would be padding. So long sentences are drawn, and cut to 16 tokens.
        """
        split = tokenizer_of(minilm_folder())(list(pairs(name).first))["input_ids"]
        found = [
            s
            for s, tokens in zip(pairs(name).first, split, strict=True)
            if len(tokens) >= CALIBRATION_LENGTH
        ]
        if not 0 < n <= len(found):
            raise BadInput(
                f"{n} calibration sentences of {name}: it has {len(found)} of enough tokens"
            )
        chosen = np.random.default_rng(seed).permutation(len(found))[:n]
        return self.encoded([found[i] for i in chosen], CALIBRATION_LENGTH)

    def encoded(self, sentences: Sequence[str], length: int = LENGTH) -> Inputs:
        """Ids, segments and mask, padded to the longest sentence, or cut to ``length`` tokens."""
        found = tokenizer_of(minilm_folder())(
            list(sentences),
            padding=True,
            truncation=True,
            max_length=length,
            return_token_type_ids=True,
            return_tensors="pt",
        )
        return found["input_ids"], found["token_type_ids"], found["attention_mask"]

    def embeddings(self, model: Callable[..., Any], sentences: Sequence[str]) -> np.ndarray:
        """(N, hidden), length 1; sentences of similar length share a batch."""
        import torch

        order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
        rows: list[Any] = [None] * len(order)
        with torch.no_grad():
            for start in range(0, len(order), BATCH):
                part = order[start : start + BATCH]
                out = model(
                    *(t.to(device_of(model)) for t in self.encoded([sentences[i] for i in part]))
                )
                for i, row in zip(part, out.cpu().numpy(), strict=True):
                    rows[i] = row
        return np.stack(rows)

    def scores(self, model: Callable[..., Any]) -> np.ndarray:
        """Cosine similarity of every pair."""
        found = pairs(self.eval_data)
        both = self.embeddings(model, [*found.first, *found.second])
        n = len(found.first)
        similarity: np.ndarray = (both[:n] * both[n:]).sum(1)
        return similarity

    def gold(self) -> np.ndarray:
        """People's judgement, 0 to 5."""
        return pairs(self.eval_data).gold
