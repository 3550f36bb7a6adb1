import os
import subprocess
import sys

import pytest

from quantbench.claims.catalog import read_claims
from quantbench.cli.main import _COMMANDS, NO_READER, main
from quantbench.evidence.result import Result
from quantbench.runs.lab import Lab


def test_list_and_select(capsys):
    assert main(["list"]) == 0
    assert "adaround" in capsys.readouterr().out
    assert main(["list", "adaround", "-k", "resnet20 and w4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all("resnet20" in line for line in lines)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["show", "adarund"], "did you mean adaround"),
        (["list", "adarund"], "did you mean adaround"),
        (["list", "-k", "and and"], ""),
        (["run", "-k", "no-such-claim-anywhere"], "no claim matches"),
        (["run", "--tier", "real", "-k", "gramround and shapes"], "shapes' in the real tier"),
        (["why", "nonsense"], "quantbench list shows all"),
        (["run", "--device", "toaster"], "device 'toaster' cannot be used here"),
        (["report", "--runs", "no-such-folder"], "no folder 'no-such-folder'"),
        (["data", "fetch", "nothing"], "there are"),
        (["data", "fetch"], "what can be fetched"),
        (["data", "remote"], "name the one folder"),
    ],
)
def test_mistakes_get_a_sentence_and_status_2(argv, message, capsys):
    assert main(argv) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    "argv", [["list"], ["list", "-k", "w4"], ["show", "adaround"], ["data", "status"]]
)
def test_a_reader_that_went_away_ends_a_command_quietly(argv):
    assert unread(argv) == (NO_READER, "")


def test_a_reader_that_leaves_a_report_ends_it_quietly(tmp_path):
    assert unread(["report", "-k", "fp and imagenet", "--runs", str(tmp_path)]) == (NO_READER, "")


def test_a_broken_pipe_that_is_not_stdout_is_an_error(monkeypatch):
    def fails(_):
        raise BrokenPipeError("of a socket")

    monkeypatch.setitem(_COMMANDS, "list", fails)
    with pytest.raises(BrokenPipeError, match="of a socket"):
        main(["list"])


def unread(argv):
    """Status and errors of a command whose output nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    command, error = [sys.executable, "-m", "quantbench", *argv], subprocess.PIPE
    done = subprocess.run(command, stdout=writer, stderr=error, text=True, check=False)
    os.close(writer)
    return done.returncode, done.stderr


def test_unknown_command_is_answered_with_the_nearest(capsys):
    with pytest.raises(SystemExit) as e:
        main(["lst"])
    assert e.value.code == 2
    assert "did you mean list" in capsys.readouterr().err


def test_show_adds_what_finished_runs_measured(tmp_path, capsys):
    claim = next(c for c in read_claims("adaround") if c.tier == "embedded")
    lab = Lab(tmp_path)
    cell = next(iter(lab.cells(claim)[0].values()))
    extra = {"shift_and_add/shifts": 1234.0}
    lab.ledger.put(cell, Result.of([True] * 4, [True, False, True, True], "0", extra=extra))
    assert main(["show", claim.id, "--runs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "quantized = 75" in out
    assert "shift_and_add/shifts = 1,234" in out


def test_show_prints_claims_methods_and_papers(capsys):
    assert main(["show", "adaround/imagenet/resnet18/w4/t7-adaround"]) == 0
    assert "68.71" in capsys.readouterr().out
    assert main(["show", "nearest"]) == 0
    assert "Defaults" in capsys.readouterr().out
