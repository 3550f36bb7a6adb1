"""Extractive question answering as a task: embedded, and SQuAD 1.1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quantbench.data.images import file
from quantbench.data.roots import data_root
from quantbench.data.text import SQUAD_COMMAND, SQUAD_MODEL, questions_file
from quantbench.errors import BadInput, DataCorrupt, DataMissing
from quantbench.system.digests import file_digest
from quantbench.tasks import spans
from quantbench.tasks.texts import device_of, tokenizer_of

if TYPE_CHECKING:
    from quantbench.network.network import Network
    from quantbench.system.tensors import Inputs


BATCH = 32


def squad(model: str, eval_data: str) -> Answering:
    """SQuAD 1.1.

    Raises:
        BadInput: another network than the one that is part of the suite.

    """
    if model != "squad/bert-base-uncased":
        raise BadInput(f"text model {model!r}: choose squad/bert-base-uncased")
    return Answering(model, eval_data)


def embedded(model: str, eval_data: str) -> Answering:
    """The questions and the network that a clone holds."""
    return Answering(model, eval_data, length=96)


@dataclass(frozen=True)
class Answering:
    """Extractive question answering, F1 by the official definition."""

    model: str
    eval_data: str
    metric: str = "f1"
    length: int = 384
    stride: int = 128

    def digests(self, calib: str) -> tuple[str, str, str]:
        """See :class:`quantbench.tasks.task.Task`."""
        calibrated = questions_file(calib)[1] if calib else ""
        return file_digest(self.weights()), calibrated, questions_file(self.eval_data)[1]

    def weights(self) -> Path:
        """File of the checkpoint."""
        if self.model.startswith("qa/"):
            return file("embedded/checkpoints/qa_bert.safetensors")
        path = data_root() / SQUAD_MODEL / "model.safetensors"
        if not path.is_file():
            raise DataMissing(self.model, SQUAD_COMMAND)
        return path

    def network(self) -> Network:
        """See :class:`quantbench.tasks.task.Task`."""
        from safetensors.torch import load_file
        from transformers import BertConfig, BertForQuestionAnswering

        from quantbench.models.bert import Encoder, encoder_network

        weights = self.weights()
        own = self.model.startswith("qa/")
        config = file("embedded/qa/config.json") if own else weights.parent / "config.json"
        bert = BertForQuestionAnswering(BertConfig.from_json_file(config))
        tensors = {k: v.float() for k, v in load_file(weights).items()}
        absent = bert.load_state_dict(tensors, strict=False).missing_keys
        if missing := [k for k in absent if "position_ids" not in k]:
            raise DataCorrupt(f"{self.model}: the checkpoint lacks {', '.join(missing[:3])}")
        first = self.windows(self.asked(self.eval_data)[:1])
        sample = self._tensors(first, slice(0, 1))
        return encoder_network(Encoder(bert.bert.eval(), bert.qa_outputs), sample, self.model)

    def asked(self, name: str) -> list[spans.Question]:
        """Questions of a set."""
        return spans.questions(questions_file(name)[0])

    def windows(self, asked: Sequence[spans.Question]) -> spans.Windows:
        """Tokenized windows."""
        stride = min(self.stride, self.length // 4)
        return spans.windows(self.tokenizer(), asked, length=self.length, stride=stride)

    def tokenizer(self) -> Any:
        """The network's own."""
        if not self.model.startswith("qa/"):
            return tokenizer_of(self.weights().parent)
        from transformers import BertTokenizerFast

        return BertTokenizerFast(vocab=str(file("embedded/qa/vocab.txt")))

    def calibration(self, name: str, n: int, seed: int) -> Inputs:
        """One window each of ``n`` questions, drawn without replacement."""
        found = self.asked(name)
        if not 0 < n <= len(found):
            raise BadInput(f"{n} calibration questions of {name}: it has {len(found)}")
        chosen = np.random.default_rng(seed).permutation(len(found))[:n]
        cut = self.windows([found[i] for i in chosen])
        _, first = np.unique(cut.question, return_index=True)
        return self._tensors(cut, first)

    @staticmethod
    def _tensors(cut: spans.Windows, index: Any) -> Inputs:
        import torch

        ids, segments, mask = (torch.from_numpy(a[index]) for a in cut.arrays)
        return ids, segments, mask

    def answers(self, model: Callable[..., Any]) -> list[str]:
        """The model's answer to every question."""
        import torch

        asked = self.asked(self.eval_data)
        cut = self.windows(asked)
        ids, _, mask = cut.arrays
        found = np.zeros((len(ids), 2, ids.shape[1]), np.float32)
        with torch.no_grad():
            for start in range(0, len(ids), BATCH):
                rows = slice(start, start + BATCH)
                longest = int(mask[rows].sum(1).max())  # no token sees the padding behind it
                batch = (t[:, :longest].to(device_of(model)) for t in self._tensors(cut, rows))
                found[rows, :, :longest] = model(*batch).cpu().numpy()
        return spans.answers(asked, cut, found)

    def scores(self, model: Callable[..., Any]) -> np.ndarray:
        """F1 of every question, 0 to 1."""
        asked = self.asked(self.eval_data)
        given = self.answers(model)
        return np.array(
            [spans.f1(g, q.answers) for g, q in zip(given, asked, strict=True)], dtype=np.float32
        )

    def exact(self, model: Callable[..., Any]) -> np.ndarray:
        """Whether each answer is exactly an accepted one."""
        asked = self.asked(self.eval_data)
        given = self.answers(model)
        return np.array(
            [spans.exact_match(g, q.answers) for g, q in zip(given, asked, strict=True)]
        )

    def gold(self) -> None:
        """Question answering has no reference similarities."""
