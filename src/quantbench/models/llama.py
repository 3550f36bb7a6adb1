"""LLaMA-style language models: RMS norms, rotary positions, SwiGLU; every product a layer.

Touvron et al. 2023, arXiv 2302.13971, section 2.2; keys and values may have fewer heads than
queries (Ainslie et al. 2023, arXiv 2305.13245).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.errors import DataCorrupt
from quantbench.network.modules import Operand
from quantbench.network.network import Network
from quantbench.system.tensors import Inputs

_SHOWN = 3  # keys named in an error


@dataclass(frozen=True)
class Sizes:
    """What the shapes of a checkpoint's weights do not say, and what they do.

    Attributes:
        heads: of the queries.
        context: tokens that positions are known for.
        words: rows of the table of embeddings.
        hidden: width of the residual stream.
        wide: width inside the feed-forward layers.
        layers: decoder layers.
        shared: heads of keys and values.
        base: of the rotary frequencies.
        eps: under the root of the norms.

    """

    heads: int
    context: int
    words: int
    hidden: int
    wide: int
    layers: int
    shared: int
    base: float = 10_000.0
    eps: float = 1e-5


class Rotary(nn.Module):
    """Turns pairs of values by an angle that grows with the position (Su et al., arXiv 2104.09864).

    Value i of a head is paired with value i + head / 2, as transformers stores the weights.
    """

    def __init__(self, head: int, context: int, base: float) -> None:
        super().__init__()
        frequency = base ** (-torch.arange(0, head, 2, dtype=torch.float64) / head)
        angle = torch.arange(context, dtype=torch.float64)[:, None] * frequency
        self.cos: Tensor
        self.sin: Tensor
        self.register_buffer("cos", angle.cos().float(), persistent=False)
        self.register_buffer("sin", angle.sin().float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, heads, T, head) from the same."""
        cos, sin = self.cos[: x.shape[2]], self.sin[: x.shape[2]]
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class DecoderLayer(nn.Module):
    """Causal self-attention and a gated feed-forward layer, each behind a norm and added.

    ``operands`` are where a scheme may quantize attention, as in
    :class:`quantbench.models.bert.Block`.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        head = sizes.hidden // sizes.heads
        self.heads, self.shared = sizes.heads, sizes.shared
        self.norm1, self.norm2 = (nn.RMSNorm(sizes.hidden, sizes.eps) for _ in range(2))
        self.query = nn.Linear(sizes.hidden, sizes.heads * head, bias=False)
        self.key = nn.Linear(sizes.hidden, sizes.shared * head, bias=False)
        self.value = nn.Linear(sizes.hidden, sizes.shared * head, bias=False)
        self.attended = nn.Linear(sizes.heads * head, sizes.hidden, bias=False)
        self.gate = nn.Linear(sizes.hidden, sizes.wide, bias=False)
        self.up = nn.Linear(sizes.hidden, sizes.wide, bias=False)
        self.down = nn.Linear(sizes.wide, sizes.hidden, bias=False)
        self.rotary = Rotary(head, sizes.context, sizes.base)
        self.operands = nn.ModuleDict(
            {k: Operand() for k in ("query", "key", "scores", "weights", "value")}
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """(N, T, hidden) from the same."""
        hidden = hidden + self.attended(self.attention(self.norm1(hidden)))
        x = self.norm2(hidden)
        gated: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return hidden + gated

    def attention(self, x: Tensor) -> Tensor:
        """(N, T, heads * head): what each token takes from itself and those before it."""
        on, groups = self.operands, self.heads // self.shared
        q = on["query"](self.rotary(self._split(self.query(x), self.heads)))
        k = on["key"](self.rotary(self._split(self.key(x), self.shared)))
        v = on["value"](self._split(self.value(x), self.shared))
        k, v = (t.repeat_interleave(groups, 1) for t in (k, v))
        scores = on["scores"](q @ k.mT / q.shape[-1] ** 0.5)
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
        scores = scores.masked_fill(later, torch.finfo(scores.dtype).min)
        context: Tensor = on["weights"](scores.softmax(-1)) @ v
        return context.transpose(1, 2).flatten(2)

    @staticmethod
    def _split(x: Tensor, heads: int) -> Tensor:
        """(N, heads, T, head)."""
        return x.view(*x.shape[:-1], heads, -1).transpose(1, 2)


class LanguageModel(nn.Module):
    """Token numbers to the logits of the next token.

    The head has its own weights where a checkpoint ties it to the embeddings: a table whose rows
    are looked up and a matrix that is multiplied are rounded apart.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(sizes.words, sizes.hidden)
        self.layers = nn.ModuleList(DecoderLayer(sizes) for _ in range(sizes.layers))
        self.norm = nn.RMSNorm(sizes.hidden, sizes.eps)
        self.head = nn.Linear(sizes.hidden, sizes.words, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """(N, T, words) from (N, T)."""
        hidden = self.embeddings(ids)
        for layer in self.layers:
            hidden = layer(hidden)
        logits: Tensor = self.head(self.norm(hidden))
        return logits


# names of transformers' LlamaForCausalLM, within a layer and outside
_INSIDE = {
    "input_layernorm": "norm1",
    "post_attention_layernorm": "norm2",
    "self_attn.q_proj": "query",
    "self_attn.k_proj": "key",
    "self_attn.v_proj": "value",
    "self_attn.o_proj": "attended",
    "mlp.gate_proj": "gate",
    "mlp.up_proj": "up",
    "mlp.down_proj": "down",
}

_OUTSIDE = {
    "model.embed_tokens.weight": "embeddings.weight",
    "model.norm.weight": "norm.weight",
    "lm_head.weight": "head.weight",
}


def language_model(tensors: Mapping[str, Tensor], heads: int, context: int) -> LanguageModel:
    """Build a model around a state dict of transformers' LlamaForCausalLM, in evaluation mode.

    Args:
        tensors: by name; a head that is missing is tied to the embeddings.
        heads: of the queries.
        context: longest sequence.

    Raises:
        DataCorrupt: tensors that are missing, unknown, or of shapes that do not go together.

    """
    own = {_renamed(name): t for name, t in tensors.items()}
    own.setdefault("head.weight", own.get("embeddings.weight", torch.empty(0)))
    try:
        words, hidden = own["embeddings.weight"].shape
        sizes = Sizes(
            heads,
            context,
            words,
            hidden,
            wide=own["layers.0.gate.weight"].shape[0],
            layers=1 + max(int(k.split(".")[1]) for k in own if k.startswith("layers.")),
            shared=own["layers.0.key.weight"].shape[0] * heads // hidden,
        )
        model = LanguageModel(sizes)
        missing, unknown = model.load_state_dict(own, strict=False)
    except (KeyError, ValueError, RuntimeError) as e:
        raise DataCorrupt(f"weights that are no LLaMA-style model of {heads} heads: {e}") from e
    if wrong := [*missing, *unknown]:
        some = ", ".join(wrong[:_SHOWN])
        raise DataCorrupt(f"weights of a LLaMA-style model: {some} are missing or unknown")
    return model.eval()


def _renamed(name: str) -> str:
    """A tensor's name here."""
    if name in _OUTSIDE:
        return _OUTSIDE[name]
    stem, _, weight = name.removeprefix("model.").rpartition(".")
    place, _, inside = stem.partition(".")
    number, _, inside = inside.partition(".")
    return f"{place}.{number}.{_INSIDE.get(inside, inside)}.{weight}"


def language_network(model: LanguageModel, sample: Inputs, name: str) -> Network:
    """The network as methods see it: linear and embedding layers, decoder layers as blocks."""
    blocks = [f"layers.{i}" for i in range(len(model.layers))]
    return Network.of(model, sample, name=name, blocks=blocks, kinds=(nn.Linear, nn.Embedding))
