"""Every loader on damaged files: a few of them each; `nox -s reliability` draws many more."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.reliability.fuzz.edits import CHANGES, EDITS, changed, edited
from tests.reliability.fuzz.judge import Watch, accepted, in_time, met
from tests.reliability.fuzz.loaders import LOADERS

JSON = [loader for loader in LOADERS if loader.text]

# these seeds are a part of the tensors, and a list of files that are not here
RIGHT = [loader for loader in LOADERS if loader.name not in ("safetensors", "data.dvc")]

IN_ONE_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def watch(tmp_path_factory):
    """One for all loaders: a hook of Python cannot be taken back."""
    return Watch(tmp_path_factory.mktemp("fuzz") / "work")


@pytest.fixture(params=LOADERS, ids=lambda loader: loader.name)
def loader(request, watch, monkeypatch):
    monkeypatch.setenv("QUANTBENCH_DATA", str(watch.folder))
    met(request.param, request.param.seeds()[0], watch.folder)
    return request.param


@pytest.mark.parametrize("loader", RIGHT, ids=lambda loader: loader.name, indirect=True)
def test_it_takes_a_file_that_is_right(loader, watch):
    first, *_ = loader.seeds()
    assert accepted(loader, first, watch)


@given(edits=EDITS, seed=st.integers(0, 2))
@IN_ONE_FOLDER
def test_it_takes_damaged_bytes_or_says_why_not(loader, watch, edits, seed):
    seeds = loader.seeds()
    with in_time():
        accepted(loader, edited(seeds[seed % len(seeds)], edits), watch)


@pytest.mark.parametrize("loader", JSON, ids=lambda loader: loader.name, indirect=True)
@given(changes=CHANGES)
@IN_ONE_FOLDER
def test_it_takes_other_values_or_says_why_not(loader, watch, changes):
    with in_time():
        accepted(loader, changed(loader.seeds()[0], changes), watch)
