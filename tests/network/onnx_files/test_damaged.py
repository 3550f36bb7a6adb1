"""Damaged and malicious files: a clear error that names file and node, and nothing executed."""

import builtins

import numpy as np
import pytest

from quantbench.errors import QuantbenchError

pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytest.importorskip("onnx2torch", reason="the extra onnx is not installed")

from quantbench.integer.qdq.read import read
from quantbench.network.onnx_files.from_onnx import from_onnx
from tests.network.onnx_files.corpus import CORPUS, model, write


def test_the_corpus_is_large_enough():
    assert len(CORPUS) >= 25


def test_the_file_that_all_are_made_from_is_right(tmp_path):
    assert len(read(write(tmp_path, model())).program.ops) == 3


@pytest.fixture
def nothing_runs(monkeypatch, tmp_path):
    """No code is compiled, no session opened, no process started, and nothing written."""
    before = []

    def forbidden(*args, **_):
        raise AssertionError(f"a file made something run: {args}")

    monkeypatch.setattr(builtins, "eval", forbidden)
    monkeypatch.setattr("os.system", forbidden)
    monkeypatch.setattr("subprocess.Popen", forbidden)
    monkeypatch.setattr("onnxruntime.InferenceSession", forbidden)
    yield before
    assert not list(tmp_path.rglob("owned"))


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize("name", CORPUS)
def test_a_reader_says_what_is_wrong_and_where(tmp_path, name):
    path = CORPUS[name].write(tmp_path)
    with pytest.raises(QuantbenchError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert CORPUS[name].says in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("seed", range(3))
def test_bytes_that_are_changed_are_an_error_or_another_network(tmp_path, seed):
    """Hundreds of damaged copies: none ends in anything but an error for people."""
    rng, whole = np.random.default_rng(seed), model().SerializeToString()
    path, refused = tmp_path / "bad.onnx", 0
    for _ in range(200):
        damaged = bytearray(whole)
        for _ in range(int(rng.integers(1, 5))):
            at = int(rng.integers(len(damaged)))
            if rng.integers(2):
                damaged[at] = int(rng.integers(256))
            else:
                del damaged[at : at + int(rng.integers(1, 4))]
        path.write_bytes(bytes(damaged))
        try:
            read(path)
        except QuantbenchError as e:
            refused += str(path) in str(e)
    assert refused > 100


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize("name", CORPUS)
def test_neither_does_it_become_a_torch_module(tmp_path, name):
    path = CORPUS[name].write(tmp_path)
    with pytest.raises(QuantbenchError, match=r"bad\.onnx"):
        from_onnx(path)
