"""A sweep from a TOML file, or from the words of a command line.

A file looks like this; ``fields`` are the same in every run, ``grid`` tries all combinations::

    seeds = 3
    cells = ["w4", "w4a8-channel"]

    [schemes.default]
    weights = { range = "mse" }

    [schemes.channel]
    weights = { per_channel = true, range = "mse" }
    acts = { symmetric = false, range = "mse" }

    [[network]]
    name = "cifar10/resnet20"
    data = "cifar10/test"
    calib = { data = "cifar10/calib_4096", n = 1024 }

    [[method]]
    name = "adaround"
    fields = { lr = 0.01 }
    grid = { iterations = [300, 1000] }
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from quantbench.claims import schema
from quantbench.claims.claim import CalibrationSet
from quantbench.claims.schemes import scheme
from quantbench.claims.toml_lines import Spec, fault, read
from quantbench.errors import BadInput
from quantbench.quantization.scheme import Scheme
from quantbench.runs.recipe import Recipe
from quantbench.sweeps.plan import NetworkData, Sweep, combinations

MOST = 1_000_000  # cells, all of which are planned before the first one runs

_FILE: Spec = {
    "seeds": "count",
    "cells": "texts",
    "schemes": "table",
    "network": "tables",
    "method": "tables",
}
_NETWORK: Spec = {"name": "text", "data": "text", "calib": "table"}
_CALIB: Spec = {"data": "text", "n": "count"}
_METHOD: Spec = {"name": "text", "fields": "table", "grid": "table"}

_ACTS = {"symmetric": False, "range": "mse"}
_CHANNEL = {"weights": {"per_channel": True, "range": "mse"}, "acts": _ACTS}

# what ``--cells`` of a command line may name
SCHEMES: Mapping[str, Mapping[str, Any]] = {
    "default": {"weights": {"range": "mse"}, "acts": _ACTS},
    "channel": _CHANNEL,
    "integer": {**_CHANNEL, "placement": "integer"},
    "edges": {**_CHANNEL, "first_last_bits": 8},
}


def from_file(path: Path) -> Sweep:
    """Read a file of the form above.

    Raises:
        BadInput: it cannot be read, is no TOML, or holds what no sweep has.

    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as e:
        raise BadInput(f"{path} cannot be read: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise BadInput(f"{path}: {e}") from e
    content = read(text, str(path))
    try:
        return _sweep(content)
    except BadInput as e:
        raise BadInput(f"{path}: {e}") from e


def from_words(
    methods: Iterable[str], cells: Iterable[str], networks: Iterable[str], calib: str, seeds: int
) -> Sweep:
    """Read the words of a command line.

    Args:
        methods: names; fields stand in files.
        cells: such as ``w4a8-channel``, of :data:`SCHEMES`.
        networks: names, each optionally with ``=`` and an evaluation set.
        calib: ``SET:N``, or empty for 256 examples of each network's own calibration set.
        seeds: how many.

    Raises:
        BadInput: a word of another form, or nothing to run.

    """
    found = tuple(_named(word, calib) for word in networks)
    recipes = tuple(Recipe(name) for name in methods)
    return _complete(recipes, {cell: scheme(cell, SCHEMES) for cell in cells}, found, seeds)


def _named(word: str, calib: str) -> NetworkData:
    """``NETWORK`` or ``NETWORK=SET``; what is not said is as the network's authors have it."""
    from quantbench.models.catalog import spec

    name, _, data = word.partition("=")
    about = spec(name)
    chosen, _, n = (calib or f"{about.calib_data}:256").partition(":")
    if not n.isdecimal() or len(n) > len(str(MOST)) or int(n) < 1:
        raise BadInput(f"calibration {calib!r}: write SET:N, such as shapes/calib:256")
    return NetworkData(name, data or about.eval_data, CalibrationSet(chosen, int(n)))


def _sweep(content: Mapping[str, Any]) -> Sweep:
    needed = ("cells", "network", "method")
    _check(content, _FILE, "the file", needed)
    tables = content.get("schemes", SCHEMES)
    for name, values in tables.items():
        _check(values, schema.SCHEME, f"[schemes.{name}]", ("weights",))
        for part in ("weights", "acts"):
            _check(values.get(part, {}), schema.GRID, f"[schemes.{name}] {part}")
    schemes = {cell: scheme(cell, tables) for cell in content["cells"]}
    networks = tuple(_network(row) for row in content["network"])
    recipes = tuple(recipe for row in content["method"] for recipe in _recipes(row))
    return _complete(recipes, schemes, networks, content.get("seeds", 1))


def _network(row: Mapping[str, Any]) -> NetworkData:
    _check(row, _NETWORK, "[[network]]", ("name", "data", "calib"))
    _check(row["calib"], _CALIB, "calib", ("data", "n"))
    return NetworkData(row["name"], row["data"], CalibrationSet(**row["calib"]))


def _recipes(row: Mapping[str, Any]) -> list[Recipe]:
    """A method with every combination of its grid."""
    _check(row, _METHOD, "[[method]]", ("name",))
    grid, fields = row.get("grid", {}), row.get("fields", {})
    if wrong := [k for k, v in grid.items() if not isinstance(v, list) or not v or k in fields]:
        raise BadInput(
            f"[[method]] {row['name']}: grid.{wrong[0]} must be a list of values to try, "
            "of a field that fields does not set too"
        )
    _require_few(math.prod(len(v) for v in grid.values()))
    return [
        Recipe(row["name"], schema.as_fields({**fields, **chosen})) for chosen in combinations(grid)
    ]


def _complete(
    recipes: Sequence[Recipe],
    schemes: Mapping[str, Scheme],
    networks: Sequence[NetworkData],
    seeds: int,
) -> Sweep:
    parts = {"method": recipes, "cell": schemes, "network": networks}
    if missing := [what for what, found in parts.items() if not found]:
        raise BadInput(f"a sweep without any {missing[0]} runs nothing: name at least one")
    for recipe in recipes:
        recipe.description()  # a wrong name or field is an error here
    _require_few(seeds * math.prod(len(found) for found in parts.values()))
    return Sweep(recipes, schemes, networks, range(seeds))


def _require_few(cells: int) -> None:
    if cells > MOST:
        raise BadInput(f"{cells:,} cells: a sweep has at most {MOST:,}; name fewer, or fewer seeds")


def _check(values: object, spec: Spec, shown: str, need: Sequence[str] = ()) -> None:
    if not isinstance(values, dict):
        raise BadInput(f"{shown} must be a table")
    if found := fault(values, spec, shown, need):
        raise BadInput(found[1])
