"""Training of the question-answering network: a three-layer BERT on generated passages, fixed seeds, one thread."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from quantbench.embedded import qa

CONFIG: dict[str, Any] = {
    "vocab_size": len(qa.vocabulary()),
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "max_position_embeddings": 96,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
_LENGTH, _BATCH, _STEPS, _RATE, _WARM = 72, 32, 5000, 1e-3, 200
_INDEX = {token: i for i, token in enumerate(qa.vocabulary())}
_PIECE = re.compile(r"(\d\d)(\d\d)|\S+")

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


def train(say: Callable[[str], object] = print) -> dict[str, Tensor]:
    """Train on passages that are never repeated.

    Returns:
        its state dict, rounded to half precision: the file is half as long, and the network is defined by it.

    """
    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=_STEPS, pct_start=_WARM / _STEPS)
    for step in range(_STEPS):
        ids, kinds, start, end = batch(list(qa.passages(1_000_000 + step, _BATCH // qa.QUESTIONS)))
        out = model(input_ids=ids, token_type_ids=kinds, attention_mask=ids != 0)
        loss = cross_entropy(out.start_logits, start) + cross_entropy(out.end_logits, end)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 200 == 0:
            say(f"step {step} of {_STEPS}: loss {float(loss.detach()):.3f}")
    return {k: v.detach().half() for k, v in model.state_dict().items()}


def build() -> Any:
    """Make the network with its initial weights, in training mode; the global generator is left as it was."""
    from transformers import BertConfig, BertForQuestionAnswering

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return BertForQuestionAnswering(BertConfig(**CONFIG)).train()


def pieces(text: str) -> list[str]:
    """Split as BERT's tokenizer does with this vocabulary: words at spaces, years into two."""
    found = _PIECE.finditer(text)
    return [piece for m in found for piece in ((m[1], f"##{m[2]}") if m[1] else (m[0],))]


def batch(paragraphs: Sequence[dict[str, Any]]) -> Batch:
    """Token ids and types (B, 72), first and last token of the answers (B,)."""
    rows = [_row(p["context"], q) for p in paragraphs for q in p["qas"]]
    ids, kinds = torch.zeros(len(rows), _LENGTH, dtype=torch.long), torch.zeros(len(rows), _LENGTH, dtype=torch.long)
    for i, (tokens, first, _, _) in enumerate(rows):
        ids[i, : len(tokens)] = torch.tensor([_INDEX[t] for t in tokens])
        kinds[i, first : len(tokens)] = 1
    return ids, kinds, torch.tensor([r[2] for r in rows]), torch.tensor([r[3] for r in rows])


def _row(context: str, question: dict[str, Any]) -> tuple[list[str], int, int, int]:
    """Tokens, and the positions of the first of the context, of the answer, and the answer's last."""
    asked = ["[CLS]", *pieces(question["question"]), "[SEP]"]
    answer = question["answers"][0]
    start = len(asked) + len(pieces(context[: answer["answer_start"]]))
    end = start + len(pieces(answer["text"])) - 1
    return [*asked, *pieces(context), "[SEP]"], len(asked), start, end


@torch.no_grad()
def exact_match(model: Any, split: str = "test") -> float:
    """Share of the answers found exactly, in percent: both ends right, the end not before the start."""
    paragraphs = list(qa.passages(*qa.SPLITS[split]))
    model.eval()
    hits = 0
    for i in range(0, len(paragraphs), _BATCH):
        ids, kinds, start, end = batch(paragraphs[i : i + _BATCH])
        out = model(input_ids=ids, token_type_ids=kinds, attention_mask=ids != 0)
        inside = (kinds == 1) & (ids != 0)
        first, last = (v.masked_fill(~inside, -1e9) for v in (out.start_logits, out.end_logits))
        spans = (first[:, :, None] + last[:, None, :]).triu()
        spans = spans.masked_fill(torch.ones_like(spans).tril(-1).bool(), -1e18)
        best = spans.flatten(1).argmax(1)
        hits += int(((best // _LENGTH == start) & (best % _LENGTH == end)).sum())
    return 100 * hits / (qa.QUESTIONS * len(paragraphs))
