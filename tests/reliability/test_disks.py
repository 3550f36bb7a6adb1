"""Writes that are refused, one by one: the session does every command, the suite two of them."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

import quantbench as qb
from quantbench.cli.parser import parser
from quantbench.errors import CannotWrite
from quantbench.system.atomic import write_atomically
from tests.helpers import saved
from tests.reliability.corpus import programs
from tests.reliability.disks.commands import COMMANDS, spoiled
from tests.reliability.disks.faults import Faults
from tests.reliability.disks.inject import Ran, forked, require_told, spoil
from tests.reliability.disks.limits import TRACK
from tests.reliability.work import WORK, Work, whole

QUICK = [work for work in COMMANDS if work.name in ("accept", "gate", "report")]

NETWORK = ("saved/quantized.json", "saved/quantized.safetensors", "net.onnx")


@pytest.mark.parametrize("work", [*COMMANDS, *WORK, TRACK], ids=lambda work: work.name)
def test_the_words_of_every_command_are_still_its_words(work):
    """The session runs them; an option that has gone would stop it on the way."""
    assert parser().parse_args(work.words).command == work.words[0]


@pytest.mark.slow
@pytest.mark.parametrize("work", QUICK, ids=lambda work: work.name)
def test_every_refused_write_is_told_and_loses_nothing(work, tmp_path):
    assert spoiled(work, tmp_path / "spoiled").points >= 4


def test_a_refused_write_of_a_network_is_told_and_leaves_no_half(tmp_path):
    """qb.save and qb.save_onnx, as a program calls them."""
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    net, images = saved.network(programs.SAVED)
    quantized = qb.quantize(qb.method("nearest"), net, images, saved.SCHEME)
    program = qb.lower(quantized)

    def both(_):
        try:
            qb.save(quantized, Path("saved"))
            qb.save_onnx(program, Path("net.onnx"))
        except CannotWrite as e:
            print(e)
            return 2
        return 0

    both_files = Work("qb.save and qb.save_onnx", (), whole(*NETWORK))
    start = lambda place: (place / "cache").mkdir(parents=True)  # noqa: E731
    assert spoil(both_files, both, start, tmp_path / "places").points >= 12


def written(words):
    """In place of a command: one file, and a line."""
    write_atomically(Path(words[0]), "new")
    return 0


def seen(tmp_path, at=0, error=errno.ENOSPC):
    place = tmp_path / "place"
    (place / "folder").mkdir(parents=True, exist_ok=True)
    (place / "folder" / "file").write_text("old")
    return forked(written, ("folder/file",), place, Faults(tmp_path, at, error)), place


def test_a_power_cut_finds_the_old_file_or_the_new_one(tmp_path):
    """The content is on the disk before its name is, and the name before the command goes on."""
    ran, _ = seen(tmp_path)
    aside = ran.seen[0][1]
    assert aside.startswith("folder/.file.")
    assert list(ran.seen) == [
        ("open", aside),
        ("fsync", aside),
        ("rename", "folder/file"),
        ("fsync", "folder"),
    ]


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_refusal_before_the_rename_leaves_the_old_file(tmp_path, at):
    ran, place = seen(tmp_path, at)
    assert ran.code == -1
    assert CannotWrite.__name__ in ran.said
    assert (place / "folder" / "file").read_text() == "old"
    assert [path.name for path in (place / "folder").iterdir()] == ["file"]


def test_a_refusal_that_nobody_tells_is_noticed():
    for ran in (
        Ran(0, "", (), "runs/x.json"),
        Ran(2, "the disk is full", (), "runs/x.json"),
        Ran(2, "", (), ""),
    ):
        with pytest.raises(AssertionError):
            require_told(ran, "a command")
    require_told(Ran(2, "cannot write runs/x.json", (), "runs/.x.json.123.tmp"), "a command")
    require_told(Ran(0, "", (), "cache/x.json"), "a command")
