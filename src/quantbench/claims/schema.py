"""What a claim file may hold: keys, kinds of values, forms of numbers, and contradictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from quantbench.claims.claim import KINDS, METRICS, NEGATIVE, PERCENT, Checkpoint, Claim, Fields
from quantbench.claims.toml_lines import Spec, fault, is_number, plain
from quantbench.errors import BadInput
from quantbench.quantization.scheme import PLACEMENTS

Row = Mapping[str, Any]

Keys = dict[str, str | tuple[str, ...]]


def _keys(kind: str, names: str) -> Keys:
    return dict.fromkeys(names.split(), kind)


FILE: Spec = {
    **_keys("text", "paper title arxiv"),
    **_keys("table", "defaults models schemes sources"),
    "claim": "tables",
}

CHECKPOINTS = get_args(Checkpoint)

MODEL: Spec = {
    **_keys("text", "name data note skip"),
    "fp": "number",
    "checkpoint": CHECKPOINTS,
}

SOURCE: Spec = {
    **_keys("text", "paper table seen"),
    "reported": ("authors", "third-party", "data", "project"),
    "status": ("read", "second-hand", "recalled"),
}

GRID: Spec = {**_keys("text", "kind range"), **_keys("truth", "symmetric per_channel")}

SCHEME: Spec = {
    **_keys("table", "weights acts overrides"),
    "placement": PLACEMENTS,
    "edge_acts": ("inputs", "outputs"),
    "first_last_bits": "count",
    "which": ("all", "first"),
}

DEFAULTS: Spec = {
    **_keys("text", "paper method data published_on tol_why note skip source row column"),
    **_keys("table", "fields rival fp calib xfail"),
    **_keys("positive", "tol fp_tol hours"),
    **_keys("count", "runs seeds"),
    **_keys("truth", "gates long"),
    "kind": tuple(KINDS),
    "metric": tuple(METRICS),
    "follows": ("paper", "code"),
    "checkpoint": CHECKPOINTS,
}

CLAIM: Spec = {**DEFAULTS, "name": "text", "cells": "table"}

# tables within a row, and the keys that each needs
NESTED: Mapping[str, tuple[Spec, tuple[str, ...]]] = {
    "rival": ({"method": "text", "fields": "table", "scheme": "text"}, ("method",)),
    "calib": ({"data": "text", "n": "count"}, ("data", "n")),
    "xfail": (
        {"number": "number", "date": "date", "cause": "text"},
        ("number", "date", "cause"),
    ),
    "fp": ({}, ()),  # by model
}

NUMBER: Spec = {**_keys("number", "value to fp"), "sd": "positive", "note": "text"}

COMPARING = ("beats", "order")  # kinds that have a rival and no number

CHANCE = 1.0  # points; guessing one of ImageNet's 1,000 classes gives 0.1


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
        f"{given!r} is no published number: "
        "write 68.71, [68.71, 0.06] or { value = 68.1, to = 69.05 }"
    )


def as_fields(given: Row) -> Fields:
    """Hyperparameters in the order of their names, lists as tuples."""
    if wrong := [key for key, value in given.items() if isinstance(value, dict)]:
        raise BadInput(
            f"fields.{wrong[0]} is a table: "
            "a field is a number, a text, true, false or a list of these"
        )
    return tuple(sorted((k, plain(v)) for k, v in given.items()))


def sound(claim: Claim) -> None:
    """Refuse what contradicts itself."""
    for wrong, what in (*_about_the_cell(claim), *_about_the_number(claim)):
        if wrong:
            raise BadInput(what)


def _about_the_cell(claim: Claim) -> Iterator[tuple[bool, str]]:
    """Whether what is run makes no sense, and why."""
    kind, quantized = claim.kind, claim.scheme is not None
    compares = kind in COMPARING
    yield not claim.data, "no evaluation data: give data to the row, the model or [defaults]"
    needs = f"a {kind} claim needs a quantized cell such as w4, not fp"
    yield not quantized and kind != "fp", needs
    yield quantized and kind == "fp", "an fp claim has one cell, called fp"
    yield quantized and not claim.method, "no method: name it, such as nearest"
    yield compares and not claim.rival, f"a {kind} claim needs a rival"
    alone = f"a {kind} claim has no rival: beats and order do"
    yield not compares and claim.rival is not None, alone


def _below_zero(claim: Claim) -> bool:
    """Whether the number is a metric that is negative, and no limit of a drop."""
    return claim.metric in NEGATIVE and claim.kind in ("fp", "accuracy", "value")


def _about_the_number(claim: Claim) -> Iterator[tuple[bool, str]]:
    """Whether what is claimed makes no sense, and why."""
    kind, value, compares = claim.kind, claim.value or 0.0, claim.kind in COMPARING
    numbers, top = claim.value is not None, 100.0 if claim.metric in PERCENT else float("inf")
    base = "no full precision to take a drop from: give fp, or kind accuracy"
    yield kind == "value" and claim.drop is None, base
    yield compares and numbers, f"a {kind} claim has no number: list the models"
    yield not compares and not numbers, f"a {kind} claim needs a number for every model"
    low, top = (-float("inf"), 0.0) if _below_zero(claim) else (0.0, top)
    yield numbers and not low <= value <= top, f"{value:g} is no {METRICS[claim.metric]}"
    backwards = claim.value_to is not None and claim.value_to <= value
    yield backwards, "a range ends above its start"
    unexplained = bool(claim.tol or claim.fp_tol) and not claim.tol_why
    yield unexplained, "a tolerance without its reason: add tol_why"
    hearsay = "a number that was recalled, retold or that others reported may not gate"
    yield claim.gates and not claim.source.may_gate, hearsay
    chance = "an accuracy of chance, which every broken network has, may not gate"
    collapsed = kind in ("value", "accuracy") and claim.metric == "top1" and value <= CHANCE
    yield claim.gates and collapsed, chance
    yield claim.gates and bool(claim.skip), "what is always skipped cannot gate"
