"""BERT-family encoders with positional tensors, so that layers are captured and blocks rebuilt."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.errors import Unsupported
from quantbench.network.modules import Operand
from quantbench.network.network import Network
from quantbench.system.tensors import Inputs


class Embeddings(nn.Module):
    """Sum of word, position and segment rows, normalized."""

    def __init__(self, table: Any) -> None:
        super().__init__()
        self.word, self.position, self.segment = (
            table.word_embeddings,
            table.position_embeddings,
            table.token_type_embeddings,
        )
        self.norm = table.LayerNorm

    def forward(self, ids: Tensor, segments: Tensor) -> Tensor:
        """(N, T, hidden) from (N, T) token numbers and segments."""
        positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        out: Tensor = self.norm(self.word(ids) + self.segment(segments) + self.position(positions))
        return out


class Block(nn.Module):
    """An encoder layer: self-attention and feed-forward, each with residual and layer norm.

    ``operands`` are where a scheme may quantize attention: what its two products multiply (queries
    and keys, softmaxed weights and values) and what its softmax takes, before padding is masked
    out.
    """

    def __init__(self, layer: Any, heads: int) -> None:
        super().__init__()
        attention = layer.attention
        self.query, self.key, self.value = (
            attention.self.query,
            attention.self.key,
            attention.self.value,
        )
        self.attended, self.norm1 = attention.output.dense, attention.output.LayerNorm
        self.wide, self.narrow, self.norm2 = (
            layer.intermediate.dense,
            layer.output.dense,
            layer.output.LayerNorm,
        )
        self.heads = heads
        self.operands = nn.ModuleDict(
            {k: Operand() for k in ("query", "key", "scores", "weights", "value")}
        )

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(N, T, hidden) from the same and an (N, T) mask of real tokens."""
        on = self.operands
        q, k, v = (
            self._split(on[name](layer(hidden)))
            for name, layer in (("query", self.query), ("key", self.key), ("value", self.value))
        )
        scores = on["scores"](q @ k.mT / q.shape[-1] ** 0.5)
        scores = scores.masked_fill(mask[:, None, None, :] == 0, torch.finfo(scores.dtype).min)
        context = (on["weights"](scores.softmax(-1)) @ v).transpose(1, 2).flatten(2)
        hidden = self.norm1(hidden + self.attended(context))
        out: Tensor = self.norm2(hidden + self.narrow(F.gelu(self.wide(hidden))))
        return out

    def _split(self, x: Tensor) -> Tensor:
        """(N, heads, T, hidden / heads)."""
        return x.view(*x.shape[:-1], self.heads, -1).transpose(1, 2)


class Encoder(nn.Module):
    """``(ids, segments, mask)`` to a sentence embedding (N, hidden) or to span logits (N, 2, T).

    Args:
        bert: a ``BertModel`` of transformers, without dropout from here on.
        spans: the layer that scores the two ends of an answer; without it, the output is the mean
            of the real tokens' vectors, scaled to length 1.

    Raises:
        Unsupported: an activation function or attention that BERT does not have.

    """

    def __init__(self, bert: Any, spans: nn.Linear | None = None) -> None:
        super().__init__()
        config = bert.config
        if (
            config.hidden_act != "gelu"
            or getattr(config, "position_embedding_type", "absolute") != "absolute"
        ):
            raise Unsupported(
                f"encoder with {config.hidden_act!r} or relative positions: "
                "only BERT's layers are known"
            )
        self.embeddings = Embeddings(bert.embeddings)
        self.layers = nn.ModuleList(
            Block(layer, config.num_attention_heads) for layer in bert.encoder.layer
        )
        self.spans = spans

    def forward(self, ids: Tensor, segments: Tensor, mask: Tensor) -> Tensor:
        """All layers and the head."""
        hidden = self.embeddings(ids, segments)
        for layer in self.layers:
            hidden = layer(hidden, mask)
        if self.spans is not None:
            ends: Tensor = self.spans(hidden)
            return ends.transpose(1, 2)
        real = mask.unsqueeze(-1).to(hidden.dtype)
        return F.normalize((hidden * real).sum(1) / real.sum(1), dim=-1)


def encoder_network(model: Encoder, sample: Inputs, name: str) -> Network:
    """The network as methods see it: linear and embedding layers, encoder layers as blocks."""
    blocks = [f"layers.{i}" for i in range(len(model.layers))]
    return Network.of(model, sample, name=name, blocks=blocks, kinds=(nn.Linear, nn.Embedding))
