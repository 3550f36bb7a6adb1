"""torch's multi-head attention with its projections as linear layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quantbench.network.hooks import has_hooks
from quantbench.network.modules import Operand


class Attention(nn.Module):
    """What ``nn.MultiheadAttention`` does, without its fused path.

    That one multiplies by weights that no layer holds, and in evaluation mode calls a kernel that
    goes past all layers. ``operands`` are where a scheme may quantize attention.
    """

    def __init__(self, torchs: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads, self.batch_first = torchs.num_heads, torchs.batch_first
        vars(self)["in_proj_bias"] = None  # so that torch's layers do not look for a fused path
        width = torchs.embed_dim
        if torchs.in_proj_weight is None:
            held = torchs.q_proj_weight, torchs.k_proj_weight, torchs.v_proj_weight
        else:
            held = torch.split(torchs.in_proj_weight, width)
        bias = torchs.in_proj_bias
        biases = (None,) * 3 if bias is None else torch.split(bias, width)
        layers = (_linear(w, b) for w, b in zip(held, biases, strict=True))
        self.query, self.key, self.value = layers
        self.out = _linear(torchs.out_proj.weight, torchs.out_proj.bias)
        self.operands = nn.ModuleDict(
            {k: Operand() for k in ("query", "key", "scores", "weights", "value")}
        )

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,  # noqa: ARG002 - a hint; the mask says the same
    ) -> tuple[Tensor, Tensor | None]:
        """As torch's: (N, L, width) where batches come first, else (L, N, width)."""
        on, alone = self.operands, query.dim() == 2
        given: tuple[Tensor, ...] = (query, key, value)
        if alone:
            given = tuple(t.unsqueeze(0) for t in given)
        elif not self.batch_first:
            given = tuple(t.transpose(0, 1) for t in given)
        layers = {"query": self.query, "key": self.key, "value": self.value}
        q, k, v = (
            self._split(on[name](layer(x)))
            for (name, layer), x in zip(layers.items(), given, strict=True)
        )
        scores = on["scores"](q @ k.mT * q.shape[-1] ** -0.5)
        if attn_mask is not None:
            per_head = attn_mask.dim() == 3
            attn_mask = (
                attn_mask.view(-1, self.num_heads, *attn_mask.shape[1:]) if per_head else attn_mask
            )
            scores = _masked(scores, attn_mask)
        if key_padding_mask is not None:
            rows = key_padding_mask.unsqueeze(0) if alone else key_padding_mask
            scores = _masked(scores, rows[:, None, None, :])
        weights = scores.softmax(-1)
        context = (on["weights"](weights) @ v).transpose(1, 2).flatten(2)
        out = self.out(context)
        found = weights.mean(1) if average_attn_weights else weights
        if alone:
            out, found = out.squeeze(0), found.squeeze(0)
        elif not self.batch_first:
            out = out.transpose(0, 1)
        return out, found if need_weights else None

    def _split(self, x: Tensor) -> Tensor:
        """(N, heads, T, width / heads)."""
        return x.view(*x.shape[:-1], self.num_heads, -1).transpose(1, 2)


def make_attention_plain(model: nn.Module) -> None:
    """Put ``Attention`` in the place of torch's own; subclasses and odd settings stay."""
    made: dict[nn.Module, Attention] = {}
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if path and type(module) is nn.MultiheadAttention and _usual(module):
            if module not in made:
                made[module] = Attention(module).eval().requires_grad_(requires_grad=False)
            model.set_submodule(path, made[module])


def _usual(module: nn.MultiheadAttention) -> bool:
    odd = "forward" in vars(module) or has_hooks(module) or has_hooks(module.out_proj)
    return not odd and module.bias_k is None and not module.add_zero_attn


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    made.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        made.bias = nn.Parameter(bias.detach().clone())
    return made


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    """Scores where a mask of truths is false, or plus a mask of numbers."""
    return (
        scores.masked_fill(mask, float("-inf"))
        if mask.dtype.is_floating_point is False
        else scores + mask
    )
