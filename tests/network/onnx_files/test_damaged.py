"""Damaged and malicious files: a clear error that names file and node, and nothing executed."""

import builtins

import pytest

from quantbench.cli.main import main
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
    path, words = CORPUS[name](tmp_path)
    with pytest.raises(QuantbenchError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize("name", CORPUS)
def test_neither_does_it_become_a_torch_module(tmp_path, name):
    path, _ = CORPUS[name](tmp_path)
    with pytest.raises(QuantbenchError, match=r"bad\.onnx"):
        from_onnx(path)


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize("name", CORPUS)
def test_the_command_ends_with_bad_input(tmp_path, name, capsys):
    path, words = CORPUS[name](tmp_path)
    assert main(["onnx", str(path)]) == 2
    assert words in capsys.readouterr().err
