"""Training of the question-answering network: a three-layer BERT on generated passages."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from quantbench.data.procedural import qa
from quantbench.tasks import spans

CONFIG: dict[str, Any] = {
    "vocab_size": len(qa.vocabulary()),
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "max_position_embeddings": 96,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    # BERT's 0.02 is for a width of 768; at 128 attention would begin nearly uniform
    "initializer_range": 0.06,
}

_BATCH, _STEPS, _RATE, _WARM = 32, 1600, 1.5e-3, 300

_INDEX = {token: i for i, token in enumerate(qa.vocabulary())}

_PIECE = re.compile(r"(\d\d)(\d\d)|\S+")

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


def train(say: Callable[[str], object] = print) -> dict[str, Tensor]:
    """Train on passages that are never repeated.

    Returns:
        its state dict, rounded to half precision: the file is half as long, and the network is
            defined by it.

    """
    model = untrained()
    hint = torch.zeros(CONFIG["hidden_size"], requires_grad=True)
    optimizer = torch.optim.AdamW(
        [*model.parameters(), hint], lr=_RATE, betas=(0.9, 0.98), weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, _RATE, total_steps=_STEPS, pct_start=_WARM / _STEPS, cycle_momentum=False
    )
    for step in range(_STEPS):
        ids, kinds, start, end = batch(list(qa.passages(1_000_000 + step, _BATCH // qa.QUESTIONS)))
        out = model(
            input_ids=ids, token_type_ids=kinds, attention_mask=ids != 0, output_hidden_states=True
        )
        loss = cross_entropy(out.start_logits, start) + cross_entropy(out.end_logits, end)
        # Two tokens of a row say little: after the second layer each is to know whether its
        # sentence is asked for.
        context = kinds == 1
        asked = told(ids, start)[context].float()
        knows = (out.hidden_states[2] @ hint)[context]
        loss = loss + binary_cross_entropy_with_logits(knows, asked)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 200 == 0:
            say(f"step {step} of {_STEPS}: loss {float(loss.detach()):.3f}")
    return {k: v.detach().half() for k, v in model.state_dict().items()}


def untrained() -> Any:
    """Make the network with its initial weights, in training mode.

    The global generator is left as it was.
    """
    from transformers import BertConfig, BertForQuestionAnswering

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertForQuestionAnswering(BertConfig(**CONFIG)).train()
    # Sines let attention learn "so many words before" at all places at once; random rows take
    # longer.
    rows, width = model.bert.embeddings.position_embeddings.weight.shape
    angle = torch.arange(rows)[:, None] * 100.0 ** -torch.linspace(0, 1, width // 2)
    scale = model.config.initializer_range * 2**0.5
    waves = torch.cat([angle.sin(), angle.cos()], 1)
    model.bert.embeddings.position_embeddings.weight.data = scale * waves
    # Keys that equal queries: attention begins at the same word and its neighbours, as finding a
    # name requires.
    for layer in model.bert.encoder.layer:
        layer.attention.self.key.weight.data.copy_(layer.attention.self.query.weight.data)
    return model


def pieces(text: str) -> list[str]:
    """Split as BERT's tokenizer does with this vocabulary: words at spaces, years into two."""
    found = _PIECE.finditer(text)
    return [piece for m in found for piece in ((m[1], f"##{m[2]}") if m[1] else (m[0],))]


def batch(paragraphs: Sequence[dict[str, Any]]) -> Batch:
    """Token ids and types (B, T), first and last token of the answers (B,)."""
    rows = [_row(p["context"], q) for p in paragraphs for q in p["qas"]]
    longest = max(len(tokens) for tokens, *_ in rows)
    ids, kinds = torch.zeros(2, len(rows), longest, dtype=torch.long)
    for i, (tokens, first, _, _) in enumerate(rows):
        ids[i, : len(tokens)] = torch.tensor([_INDEX[t] for t in tokens])
        kinds[i, first : len(tokens)] = 1
    return ids, kinds, torch.tensor([r[2] for r in rows]), torch.tensor([r[3] for r in rows])


def told(ids: Tensor, start: Tensor) -> Tensor:
    """Tokens (B, T) of the sentence in which the answer starts."""
    stops = ((ids == _INDEX["."]) | (ids == _INDEX["[SEP]"])).long()
    number = stops.cumsum(1) - stops
    return number == number.gather(1, start[:, None])


def _row(context: str, question: dict[str, Any]) -> tuple[list[str], int, int, int]:
    """Tokens, and positions: of the context's first, of the answer's first and last."""
    asked = ["[CLS]", *pieces(question["question"]), "[SEP]"]
    answer = question["answers"][0]
    start = len(asked) + len(pieces(context[: answer["answer_start"]]))
    end = start + len(pieces(answer["text"])) - 1
    return [*asked, *pieces(context), "[SEP]"], len(asked), start, end


@torch.no_grad()
def scores(model: Any, split: str = "test") -> tuple[float, float]:
    """Exact match and F1 in percent, by SQuAD's definition."""
    paragraphs = list(qa.passages(*qa.SPLITS[split]))
    words = qa.vocabulary()
    model.eval()
    pairs: list[tuple[str, str]] = []  # answer given, answer asked for
    for i in range(0, len(paragraphs), _BATCH):
        ids, kinds, _, _ = batch(paragraphs[i : i + _BATCH])
        out = model(input_ids=ids, token_type_ids=kinds, attention_mask=ids != 0)
        ends = ((kinds == 1) & (ids != 0)).float().log()  # -inf outside of the context
        best = (out.start_logits + ends)[:, :, None] + (out.end_logits + ends)[:, None, :]
        backwards = torch.ones_like(best).tril(-1).bool()  # an end before its start
        best = best.masked_fill(backwards, -torch.inf).flatten(1).argmax(1)
        asked = [q["answers"][0]["text"] for p in paragraphs[i : i + _BATCH] for q in p["qas"]]
        for row, span, answer in zip(ids.tolist(), best.tolist(), asked, strict=True):
            start, end = divmod(span, ids.shape[1])
            given = " ".join(words[t] for t in row[start : end + 1]).replace(" ##", "")
            pairs.append((given, answer))
    exact = sum(spans.exact_match(given, [answer]) for given, answer in pairs)
    f1 = sum(spans.f1(given, [answer]) for given, answer in pairs)
    return 100 * exact / len(pairs), 100 * f1 / len(pairs)
