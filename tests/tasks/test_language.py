"""Language modelling: the vocabulary, windows, and log-likelihoods against brute force."""

import itertools
import math
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from quantbench.errors import BadInput, DataCorrupt, DataMissing
from quantbench.evidence import estimates
from quantbench.evidence.result import Result
from quantbench.tasks import language
from quantbench.tasks.registry import task
from quantbench.tasks.texts import Subwords


def vocabulary(unions):
    """A file in llama2.c's layout: marks, 256 bytes, then unions and letters with scores."""
    pieces = [(b"<unk>", 0.0), (b"\n<s>\n", 0.0), (b"\n</s>\n", 0.0)]
    pieces += [(b"<0x%02X>" % i, 0.0) for i in range(256)]
    pieces += [(union.encode(), -float(i)) for i, union in enumerate(unions)]
    pieces += [(letter.encode(), -1000.0) for letter in " abcé"]
    return struct.pack("<i", 7) + b"".join(
        struct.pack("<fi", score, len(piece)) + piece for piece, score in pieces
    )


UNIONS = ["ab", " a", "bc", " ab", "abc", " abc", "aa", "cc", "ca"]
WORDS = Subwords(vocabulary(UNIONS))


@given(st.text(alphabet="abcé xyz\né€@<0", max_size=40))
def test_a_text_comes_back_from_its_tokens(text):
    tokens = WORDS.encode(text)
    assert WORDS.decode(tokens) == text
    assert all(0 <= t < len(WORDS.pieces) for t in tokens)


@given(st.text(alphabet="abc d", max_size=12))
def test_words_on_their_own_are_joined_as_in_the_whole_text(text):
    """The definition on the whole text: again and again the best union, the first of equals."""
    number = {p: i for i, p in enumerate(WORDS.pieces)}
    ids = []
    for char in f" {text}" if text else "":
        ids += [number.get(char.encode(), 3 + ord(char))]
    while True:
        found = [
            (WORDS.scores[number[union]], -i)
            for i in range(len(ids) - 1)
            if (union := WORDS.pieces[ids[i]] + WORDS.pieces[ids[i + 1]]) in number
        ]
        if not found:
            break
        at = -max(found)[1]
        ids[at : at + 2] = [number[WORDS.pieces[ids[at]] + WORDS.pieces[ids[at + 1]]]]
    assert WORDS.encode(text) == ids


def test_a_vocabulary_that_is_cut_short_is_refused():
    whole = vocabulary(UNIONS)
    for content in (whole[:-1], whole[:3000], b"", whole[: whole.index(b"<0x05>")]):
        with pytest.raises(DataCorrupt, match="vocabulary"):
            Subwords(content)


class Bigrams(nn.Module):
    """Logits that depend on the last token alone."""

    def __init__(self, count):
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        self.table = nn.Parameter(torch.randn(count, count, generator=rng))

    def forward(self, ids):
        return self.table[ids]


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The task on a text of a few letters."""
    path = tmp_path / "words.bin"
    path.write_bytes(vocabulary(UNIONS))
    text = "abc cab <|endoftext|>\nab ab ca b\n<|endoftext|>\n" + "ca ab bc " * 30
    monkeypatch.setattr(language, "file", lambda name: path)  # noqa: ARG005
    monkeypatch.setattr(language, "text_file", lambda name: (text, "digest"))  # noqa: ARG005
    language._windows.cache_clear()
    yield language.LanguageModelling("tinystories/llama-260k", "text", length=7)
    language._windows.cache_clear()


def test_scores_are_the_log_probabilities_of_every_next_token(small):
    windows, model = small.windows("text"), Bigrams(len(WORDS.pieces))
    p = model.table.detach().double().softmax(1)
    found = small.scores(model)
    assert len(found) == len(windows) > language.BATCH  # more than one batch
    for row, score in zip(windows, found, strict=True):
        each = [math.log(p[a, b]) for a, b in itertools.pairwise(row)]
        assert score == pytest.approx(sum(each) / 6, rel=1e-5)


def test_windows_are_the_documents_one_after_the_other(small):
    stream = small.windows("text").flatten().tolist()
    begin = [i for i, token in enumerate(stream) if token == Subwords.BEGIN]
    assert begin[0] == 0
    assert len(begin) == 3
    assert WORDS.decode(stream[begin[0] : begin[1]]) == "abc cab"
    assert WORDS.decode(stream[begin[1] : begin[2]]) == "ab ab ca b"


def test_calibration_windows_are_drawn_without_replacement(small):
    windows = small.windows("text")
    (drawn,) = small.calibration("text", len(windows), 3)
    assert sorted(drawn.tolist()) == sorted(windows.tolist())
    assert not torch.equal(drawn, small.calibration("text", len(windows), 4)[0])
    with pytest.raises(BadInput, match="it has"):
        small.calibration("text", len(windows) + 1, 0)


def test_a_part_of_a_text_is_spread_over_it(small, monkeypatch):
    monkeypatch.setattr(language, "PARTS", {"some": ("text", 5)})
    whole, part = small.windows("text"), small.windows("some")
    assert len(part) == 5
    assert (part[0] == whole[0]).all()
    assert (part[-1] == whole[-1]).all()


def test_other_networks_and_texts_are_refused_by_name(monkeypatch, tmp_path):
    with pytest.raises(BadInput, match="choose tinystories/llama-260k"):
        task("tinystories/llama-7b", "wikitext2/test")
    with pytest.raises(BadInput, match="choose tinystories/valid"):
        language.text_file("wikitext2/tset")
    monkeypatch.setenv("QUANTBENCH_DATA", str(tmp_path))
    language.text_file.cache_clear()
    with pytest.raises(DataMissing, match="hf download roneneldan/TinyStories"):
        language.text_file("tinystories/valid")


def test_log_likelihoods_are_compared_window_by_window():
    """A loss that is the same in every window is certain, however different windows are."""
    rng = np.random.default_rng(0)
    fp = -3 + rng.normal(size=200)
    worse, rival = fp - 0.02, fp - 0.05 + 0.01 * rng.normal(size=200)
    runs = {0: Result.of(fp, worse, "a", metric="log_likelihood")}
    rivals = {0: Result.of(fp, rival, "b", metric="log_likelihood")}
    drop = estimates.drop(runs)
    assert (drop.value, drop.low, drop.high) == pytest.approx((2, 2, 2), abs=1e-3)
    advantage = estimates.advantage(runs, rivals)
    assert 2.7 < advantage.low < advantage.value < advantage.high < 3.3
    assert estimates.fp_accuracy(runs).half == pytest.approx(
        196 * fp.std() / math.sqrt(200), rel=0.1
    )
    assert runs[0].fp_top1 == pytest.approx(100 * fp.mean(), rel=1e-5)
