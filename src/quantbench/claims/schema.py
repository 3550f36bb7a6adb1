"""What a claim file may hold: keys, kinds of values, forms of numbers, and what must not contradict itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from quantbench.claims.claim import KINDS, METRICS, PERCENT, Claim, Fields
from quantbench.claims.toml_lines import Spec, fault, is_number
from quantbench.errors import BadInput

Row = Mapping[str, Any]

Keys = dict[str, str | tuple[str, ...]]


def _keys(kind: str, names: str) -> Keys:
    return dict.fromkeys(names.split(), kind)


FILE: Spec = {
    **_keys("text", "paper title arxiv"),
    **_keys("table", "defaults models schemes sources"),
    "claim": "tables",
}

MODEL: Spec = {**_keys("text", "name data note skip"), "fp": "number"}

SOURCE: Spec = {
    **_keys("text", "paper table seen"),
    "reported": ("authors", "third-party", "data", "project"),
    "status": ("read", "recalled"),
}

GRID: Spec = {**_keys("text", "kind range"), **_keys("truth", "symmetric per_channel")}

SCHEME: Spec = {
    **_keys("table", "weights acts overrides"),
    "placement": ("inputs", "attention", "integer"),
    "first_last_bits": "count",
    "which": ("all", "first"),
}

DEFAULTS: Spec = {
    **_keys("text", "paper method data published_on tol_why note xfail skip source row column"),
    **_keys("table", "fields rival fp calib"),
    **_keys("positive", "tol fp_tol"),
    **_keys("count", "runs seeds"),
    **_keys("truth", "gates long"),
    "kind": tuple(KINDS),
    "metric": tuple(METRICS),
    "follows": ("paper", "code"),
}

CLAIM: Spec = {**DEFAULTS, "name": "text", "cells": "table"}

# tables within a row, and the keys that each needs
NESTED: Mapping[str, tuple[Spec, tuple[str, ...]]] = {
    "rival": ({"method": "text", "fields": "table", "scheme": "text"}, ("method",)),
    "calib": ({"data": "text", "n": "count"}, ("data", "n")),
    "fp": ({}, ()),  # by model
}

NUMBER: Spec = {**_keys("number", "value to fp"), "sd": "positive", "note": "text"}

CELL = re.compile(r"w(\d+)(?:a(\d+))?(?:-([\w-]+))?")


def as_number(given: object) -> dict[str, Any]:
    """A published number in any of its three forms."""
    match given:
        case dict():
            if found := fault(given, NUMBER, "a number"):
                raise BadInput(found[1])
            return given
        case [value, sd] if is_number(value) and is_number(sd) and sd >= 0:
            return {"value": value, "sd": sd}
        case _ if is_number(given):
            return {"value": given}
    raise BadInput(
        f"{given!r} is no published number: write 68.71, [68.71, 0.06] or {{ value = 68.1, to = 69.05 }}"
    )


def as_fields(given: Row) -> Fields:
    """Hyperparameters in the order of their names, lists as tuples."""
    if wrong := [key for key, value in given.items() if isinstance(value, dict)]:
        raise BadInput(
            f"fields.{wrong[0]} is a table: a field is a number, a text, true, false or a list of these"
        )
    return tuple(sorted((k, tuple(v) if isinstance(v, list) else v) for k, v in given.items()))


def sound(claim: Claim) -> None:
    """Refuse what contradicts itself."""
    compares, numbers = claim.kind in ("beats", "order"), claim.value is not None
    top = 100.0 if claim.metric in PERCENT else float("inf")
    for wrong, what in (
        (not claim.data, "no evaluation data: give data to the row, the model or [defaults]"),
        (
            claim.scheme is None and claim.kind != "fp",
            f"a {claim.kind} claim needs a quantized cell such as w4, not fp",
        ),
        (claim.scheme is not None and claim.kind == "fp", "an fp claim has one cell, called fp"),
        (claim.scheme is not None and not claim.method, "no method: name it, such as nearest"),
        (compares and not claim.rival, f"a {claim.kind} claim needs a rival"),
        (
            not compares and claim.rival is not None,
            f"a {claim.kind} claim has no rival: beats and order do",
        ),
        (
            claim.kind == "value" and claim.drop is None,
            "no full precision to take a drop from: give fp, or kind accuracy",
        ),
        (compares and numbers, f"a {claim.kind} claim has no number: list the models"),
        (not compares and not numbers, f"a {claim.kind} claim needs a number for every model"),
        (
            numbers and not 0 <= (claim.value or 0) <= top,
            f"{claim.value} is no {METRICS[claim.metric]}",
        ),
        (
            claim.value_to is not None and claim.value_to <= (claim.value or 0),
            "a range ends above its start",
        ),
        (
            (claim.tol or claim.fp_tol) and not claim.tol_why,
            "a tolerance without its reason: add tol_why",
        ),
        (
            claim.gates and not claim.source.may_gate,
            "a number that was recalled or that others reported may not gate",
        ),
        (claim.gates and bool(claim.skip), "what is always skipped cannot gate"),
    ):
        if wrong:
            raise BadInput(what)
