"""The command: counts first, goes on where it stopped, says what failed; ten thousand cells."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from quantbench.cli.main import main
from quantbench.errors import Unsupported
from quantbench.runs.lab import Lab
from quantbench.sweeps.estimate import Times, in_words
from quantbench.sweeps.read import from_file
from tests.docs.pages import DOCS, blocks
from tests.sweeps.made_up import jobs, result

WORDS = ["sweep", "--cells", "w4", "--networks", "shapes/resnet8"]


@pytest.fixture
def made_up(monkeypatch):
    """Cells get made-up results; names of those that ran."""
    ran = []

    def run(self, cell):
        if stored := self.ledger.get(cell):
            return stored
        if cell.described.name == "ibc":
            raise Unsupported("not this one")
        ran.append(cell.id)
        self.ledger.put(cell, result(cell.id))
        return result(cell.id)

    monkeypatch.setattr(Lab, "result", run)
    return ran


def test_counts_first_and_goes_on(made_up, tmp_path, capsys):
    words = [*WORDS, "--runs", str(tmp_path), "--methods", "nearest", "--seeds"]
    assert main([*words, "2", "--dry-run"]) == 0
    assert "2 cells, 2 to run\nno estimate; of 2 cells no like" in capsys.readouterr().out
    assert not made_up
    assert main([*words, "2"]) == 0
    capsys.readouterr()
    assert main([*words, "5", "--dry-run"]) == 0
    assert "5 cells, 3 to run\nabout 3 s on one processor" in capsys.readouterr().out
    table = tmp_path / "table.md"
    assert main([*words, "5", "--table", str(table)]) == 0
    assert len(made_up) == 5
    assert (
        "| shapes/resnet8 on shapes/test, shapes/calib:256 | w4 | nearest | 5 |"
        in capsys.readouterr().out
    )
    assert table.read_text().count("\n") == 3


def test_shards_fill_one_ledger(made_up, tmp_path, capsys):
    for shard in ("1/3", "2/3", "3/3"):
        words = [*WORDS, "--runs", str(tmp_path), "--methods", "nearest", "--seeds", "7"]
        assert main([*words, "--shard", shard]) == 0
    assert len(made_up) == len(set(made_up)) == 7
    shown = capsys.readouterr().out
    assert [shown.count(f"{n} cells of this shard, {n} to run") for n in (3, 2)] == [1, 2]


def test_what_fails_is_named_and_the_rest_runs(made_up, tmp_path, capsys):
    words = [*WORDS, "--runs", str(tmp_path), "--methods", "ibc", "nearest"]
    assert main(words) == 1
    assert len(made_up) == 1
    assert "/w4/ibc/s0: not this one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "without any method"),
        (["--methods", "nearest", "--address", "here:1"], "add --engine ray"),
        (["--methods", "nearest", "--shard", "4/3"], "write i/n"),
        (["nowhere.toml", "--methods", "nearest"], "give either a file or"),
        (["--methods", "nearest", "--seeds", "0"], "at least 1"),
        (["--methods", "nearst"], "did you mean nearest"),
    ],
)
def test_bad_words_end_with_2(words, message, tmp_path, capsys):
    assert main([*WORDS, "--runs", str(tmp_path), *words]) == 2
    assert message in capsys.readouterr().err


def test_a_file_that_is_not_there(tmp_path, capsys):
    assert main(["sweep", str(tmp_path / "nowhere.toml"), "--runs", str(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_a_damaged_cell_runs_again(made_up, tmp_path, capsys):
    words = [*WORDS, "--runs", str(tmp_path), "--methods", "nearest"]
    assert main(words) == 0
    (record,) = (tmp_path / "cells").glob("*.json")
    record.write_text(record.read_text()[:-9])
    assert main(words) == 0
    assert len(made_up) == 2
    assert "1 cells, 1 to run" in capsys.readouterr().out


def test_what_is_asked_twice_is_one_run(made_up, tmp_path, capsys):
    assert main([*WORDS, "--runs", str(tmp_path), "--methods", "nearest", "nearest"]) == 0
    assert len(made_up) == 1
    assert "| nearest | 1 |" in capsys.readouterr().out


def test_an_error_of_any_kind_is_of_its_cell_alone(made_up, tmp_path, capsys, monkeypatch):
    run = Lab.result

    def breaks(self, cell):
        if cell.seed == 0:
            raise RuntimeError("out of memory")
        return run(self, cell)

    monkeypatch.setattr(Lab, "result", breaks)
    words = [*WORDS, "--runs", str(tmp_path), "--methods", "nearest", "--seeds", "2"]
    assert main(words) == 1
    assert len(made_up) == 1
    assert "RuntimeError: out of memory" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("made_up")
def test_a_thousand_cells_cost_five_milliseconds_each(tmp_path):
    """Planning, keys, ledger and table; processor time, so that a busy machine does not count."""
    words = [*WORDS, "--runs", str(tmp_path), "--methods", "nearest", "--seeds", "1000"]
    start = time.process_time()
    assert main(words) == 0
    assert time.process_time() - start < 5.0


@pytest.mark.slow
def test_a_dry_run_imports_no_torch(tmp_path):
    words = [*WORDS, "--runs", str(tmp_path), "--methods", "nearest", "--dry-run"]
    main(words)  # the method's description is kept
    code = f"import sys; from quantbench.cli.main import main; status = main({words}); "
    code += "sys.exit(status or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_estimates_come_from_the_nearest_kin(tmp_path):
    lab = Lab(tmp_path)
    first, second, other = (job.cell(lab) for job in jobs(2) + jobs(1, ("adaround",)))
    times = Times()
    assert times.estimate(first) is None
    times.add(first.key_fields(), 40.0)
    assert times.estimate(second) == 40.0
    assert times.estimate(other) is None
    assert [in_words(s) for s in (40, 600, 36000)] == ["40 s", "10 min", "10.0 h"]


def test_the_files_in_the_documentation_are_sweeps(tmp_path):
    path, counts = tmp_path / "sweep.toml", []
    for block in blocks(DOCS / "sweeps.md"):
        if block.language == "toml":
            path.write_text(block.text, encoding="utf-8")
            counts.append(len(list(from_file(path).jobs())))
    assert counts == [18, 36]
