"""Which methods, families and schemes the tests of this package run on."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import pytest

from quantbench.conformance.families import FAMILIES
from quantbench.conformance.observation import Case, Observation, observe
from quantbench.conformance.subject import complete, quick, schemes_of
from quantbench.errors import BadInput
from quantbench.quantization.method import Method
from quantbench.quantization.registry import list_methods, make

Key = tuple[str, str, str]  # method, family, scheme

# Fixtures that are a run on a network: under every scheme, or under the one that a test needs.
SCHEMES_OF_FIXTURES = {"seen": "", "resumable": "w4a8", "lowerable": "integer"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for every method, and for every network and scheme where it looks at a run."""
    names = asked_for(metafunc.config)
    for fixture, only in SCHEMES_OF_FIXTURES.items():
        if fixture in metafunc.fixturenames:
            keys = [(n, f, s) for n in names for f in FAMILIES for s in schemes_of(f)]
            keys = [key for key in keys if key[2] == (only or key[2])]
            ids = ["-".join(key) for key in keys]
            metafunc.parametrize(fixture, keys, indirect=True, ids=ids)
    if "family" in metafunc.fixturenames:
        metafunc.parametrize("family", FAMILIES)
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", names)


def asked_for(config: pytest.Config) -> list[str]:
    """Names of methods; a usage error where there are none, or none of that name."""
    names: list[str] = config.getoption("method")
    if not names:
        raise pytest.UsageError("say which method is to conform: --method NAME, or --method all")
    found = [n for name in names for n in (list_methods() if name == "all" else [name])]
    try:
        for name in found:
            make(name)
    except BadInput as e:
        raise pytest.UsageError(str(e)) from e
    return list(dict.fromkeys(found))


@cache
def _method(name: str) -> Method:
    return complete(quick(make(name)))


@cache
def _observation(key: Key) -> Observation:
    name, family, scheme = key
    return observe(Case(_method(name), family, scheme))


@pytest.fixture
def method(name: str) -> Method:
    """The method, quick and complete."""
    return _method(name)


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Observation:
    """Its run on a network under a scheme."""
    return _observation(request.param)


resumable = lowerable = seen


@pytest.fixture
def everywhere(name: str) -> Mapping[str, Observation]:
    """All of its runs, by ``FAMILY/SCHEME``."""
    return {f"{f}/{s}": _observation((name, f, s)) for f in FAMILIES for s in schemes_of(f)}
