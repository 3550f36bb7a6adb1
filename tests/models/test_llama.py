"""LLaMA-style models against transformers' own, and checkpoints that are none."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from quantbench.errors import DataCorrupt
from quantbench.methods.gramround import GramRound
from quantbench.models.llama import language_model, language_network
from quantbench.quantization.method import quantize
from quantbench.quantization.scheme import Grid, Scheme

HEADS, CONTEXT, WORDS = 4, 16, 40


def theirs(*, shared=2, tied=False):
    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=HEADS, num_key_value_heads=shared, max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5, tie_word_embeddings=tied,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval()
        for p in model.parameters():  # norms are 1 and the rest small otherwise
            p.data += 0.3 * torch.randn_like(p)
    return model


def ids(n=3):
    return torch.randint(0, WORDS, (n, CONTEXT), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shared", [1, 2, 4])
@pytest.mark.parametrize("tied", [False, True])
def test_our_model_is_transformers_llama(shared, tied):
    own = theirs(shared=shared, tied=tied)
    tensors = own.state_dict()
    if tied:
        del tensors["lm_head.weight"]
    ours = language_model(tensors, HEADS, CONTEXT)
    with torch.no_grad():
        torch.testing.assert_close(ours(ids()), own(ids()).logits, rtol=1e-4, atol=1e-4)


def test_no_token_sees_what_comes_later():
    model = language_model(theirs().state_dict(), HEADS, CONTEXT)
    x = ids()
    changed = x.clone()
    changed[:, 9:] = (changed[:, 9:] + 1) % WORDS
    with torch.no_grad():
        assert torch.equal(model(x)[:, :9], model(changed)[:, :9])
        assert not torch.equal(model(x)[:, 9:], model(changed)[:, 9:])


def test_every_matrix_and_table_is_quantized_and_the_head_apart_from_the_table():
    tensors = theirs(tied=True).state_dict()
    x = ids(8)
    net = language_network(language_model(tensors, HEADS, CONTEXT), (x[:2],), "small")
    inside = ("query", "key", "value", "attended", "gate", "up", "down")
    each = [f"layers.{i}.{name}" for i in range(2) for name in inside]
    assert [info.name for info in net.layers] == ["embeddings", *each, "head"]
    assert net.blocks == ("layers.0", "layers.1")
    scheme = Scheme(Grid(4, per_channel=True))
    q = quantize(GramRound(width=2, moves=5), net, (x,), scheme)
    assert all(layer.codes is not None for layer in q.layers())
    assert (q.fake()(x) - net.model(x)).square().mean() < 0.5 * net.model(x).var()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("model.layers.1.mlp.up_proj.weight"), "up.weight are missing"),
        (lambda t: t.update(bias=torch.zeros(3)), "unknown"),
        (lambda t: t.pop("model.embed_tokens.weight"), "no LLaMA-style model"),
        (lambda t: t.update({"model.norm.weight": torch.zeros(3)}), "no LLaMA-style model"),
    ],
)
def test_other_checkpoints_are_refused_by_name(change, said):
    tensors = dict(theirs().state_dict())
    change(tensors)
    with pytest.raises(DataCorrupt, match=said):
        language_model(tensors, HEADS, CONTEXT)
