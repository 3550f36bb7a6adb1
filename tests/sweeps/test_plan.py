"""Sweeps as files and command lines name them, their shards, and the errors for what is wrong."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantbench.errors import BadInput
from quantbench.sweeps.plan import Shard, Sweep
from quantbench.sweeps.read import from_file, from_words

FILE = """
seeds = 2
cells = ["w4", "w4a8-channel"]

[schemes.default]
weights = { range = "mse" }

[schemes.channel]
weights = { per_channel = true, range = "mse" }
acts = { symmetric = false, range = "minmax" }

[[network]]
name = "shapes/resnet8"
data = "shapes/test"
calib = { data = "shapes/calib", n = 64 }

[[method]]
name = "nearest"

[[method]]
name = "adaround"
fields = { lr = 0.01 }
grid = { iterations = [10, 20], relu = [true, false] }
"""


def read(tmp_path: Path, text: str) -> Sweep:
    path = tmp_path / "sweep.toml"
    path.write_text(text)
    return from_file(path)


def test_a_file_is_every_combination(tmp_path):
    jobs = list(read(tmp_path, FILE).jobs())
    assert len(jobs) == len({str(job) for job in jobs}) == 2 * 2 * (1 + 4)
    assert [job.seed for job in jobs] == [0] * 10 + [1] * 10
    assert str(jobs[0]) == "shapes/resnet8 on shapes/test, shapes/calib:64/w4/nearest/s0"
    grids = {dict(j.recipe.options)["iterations"] for j in jobs if j.recipe.method == "adaround"}
    assert grids == {10, 20}
    channel = next(j.scheme for j in jobs if j.scheme_name == "w4a8-channel")
    assert channel.weights.per_channel
    assert channel.acts is not None
    assert (channel.acts.bits, channel.acts.range) == (8, "minmax")


def test_words_take_what_the_network_has():
    (job,) = from_words(["nearest"], ["w4-channel"], ["shapes/resnet8"], "", 1).jobs()
    assert (job.network.data, job.network.calib.data) == ("shapes/test", "shapes/calib")
    (other,) = from_words(
        ["nearest"], ["w3"], ["cifar10/resnet20=cifar10/test"], "cifar10/calib_4096:32", 1
    ).jobs()
    assert other.network.calib.n == 32


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "nearest"', 'name = "nearst"', "did you mean nearest"),
        ("lr = 0.01", "lrr = 0.01", "did you mean lr"),
        ("w4a8-channel", "w4a8-chanel", "did you mean channel"),
        ("w4a8-channel", "4x8", "name it fp, w4"),
        ("w4a8-channel", "w4a8", "has no acts"),
        ("iterations = [10, 20]", "iterations = 10", "must be a list"),
        ("iterations = [10, 20]", "lr = [0.1]", "does not set too"),
        ("seeds = 2", "seeds = 0", "whole number from 1"),
        ("seeds = 2", f"seeds = {7 * 10**40}", "cells: a sweep has at most 1,000,000"),
        ("seeds = 2", "sedes = 2", "did you mean seeds"),
        ('cells = ["w4", "w4a8-channel"]', "cells = 4", "list of texts"),
        ('cells = ["w4", "w4a8-channel"]', "cells = []", "without any cell"),
        ("n = 64", "n = -1", "whole number from 1"),
        ("[[network]]", "[network]", "double brackets"),
        ("seeds = 2", "seeds = ", "sweep.toml"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, old, new, message):
    with pytest.raises(BadInput, match=message):
        read(tmp_path, FILE.replace(old, new, 1))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(BadInput, match="cannot be read"):
        from_file(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match=r"bytes\.toml"):
        from_file(tmp_path / "bytes.toml")


@pytest.mark.parametrize("calib", ["shapes/calib", "shapes/calib:0", "shapes/calib:x"])
def test_calibration_words(calib):
    with pytest.raises(BadInput, match="SET:N"):
        from_words(["nearest"], ["w4"], ["shapes/resnet8"], calib, 1)


@given(st.integers(0, 60), st.integers(1, 9))
def test_shards_are_all_jobs_once(count, of):
    jobs = list(range(count))
    parts = [list(Shard.read(f"{i}/{of}").take(jobs)) for i in range(1, of + 1)]
    assert sorted(itertools.chain(*parts)) == jobs
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(
    "text", ["0/2", "3/2", "1", "1/0", "-1/2", "a/b", "1/2/3", "\u0661/\u0662"]
)
def test_shards_that_are_none(text):
    with pytest.raises(BadInput, match="write i/n"):
        Shard.read(text)
