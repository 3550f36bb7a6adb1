"""Reading one file of claims: TOML that looks like the paper's tables.

Errors name file and line. A ``[[claim]]`` is a row of a published table; its ``cells`` hold one
number for each scheme and model::

    [[claim]]
    name = "t7-adaround"
    source = "t7"
    row = "AdaRound"
    method = "adaround"
    cells.w4 = { resnet18 = [68.71, 0.06], resnet50 = [75.23, 0.04] }

A number is ``68.71``, ``[68.71, 0.06]`` with its standard deviation, or ``{ value, to, sd, fp, note
}``. A ``beats`` or ``order`` claim has no number: its cells are lists of models. A cell is named
``fp``, or ``w<bits>[a<bits>]`` and, after a hyphen, the name of one of ``[schemes]`` (without one,
``default``), whose ``overrides`` give layers bits of their own. ``[models]`` gives each model its
registry name and full-precision accuracy, ``[defaults]`` what all claims of the file share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from quantbench.claims import schema
from quantbench.claims.claim import CalibrationSet, Claim, Rival, Xfail
from quantbench.claims.schema import Row, as_fields, as_number, sound
from quantbench.claims.schemes import scheme as scheme_of
from quantbench.claims.source import Source
from quantbench.claims.toml_lines import Text, Written, fault, half_unit, read
from quantbench.errors import BadInput, did_you_mean
from quantbench.quantization.scheme import Scheme


def parse(text: str, name: str) -> tuple[Claim, ...]:
    """Read the claims of one file.

    Args:
        text: the file's content.
        name: the file's name, for the errors.

    Raises:
        BadInput: no TOML, or not what a claim file holds; names file and line.

    """
    content = read(text, name, Written)
    file = _File(Text(name, text), content)
    file.require()
    return tuple(
        claim for nth, row in enumerate(content.get("claim", ())) for claim in file.claims(row, nth)
    )


@dataclass(frozen=True)
class _File:
    """A parsed file and its text."""

    text: Text
    content: Mapping[str, Any]

    def require(self) -> None:
        """Check everything but the claims themselves."""
        self.text.require(
            self.content, schema.FILE, "", need=("paper", "title", "models", "sources")
        )
        self.text.require(self.content.get("defaults", {}), schema.DEFAULTS, "defaults")
        for table, spec, need in (
            ("models", schema.MODEL, ("name",)),
            ("sources", schema.SOURCE, ("reported", "status")),
            ("schemes", schema.SCHEME, ("weights",)),
        ):
            for name, values in self.content.get(table, {}).items():
                if not isinstance(values, dict):
                    raise self.text.error(f"{table}.{name} must be a table", table, name)
                self.text.require(values, spec, f"{table}.{name}", need=need)
        for name, values in self.content.get("schemes", {}).items():
            for part in ("weights", "acts"):
                self.text.require(values.get(part, {}), schema.GRID, f"schemes.{name}")

    def claims(self, given: Row, nth: int) -> Iterator[Claim]:
        """All claims of one row."""
        self.text.require(given, schema.CLAIM, "claim", nth, need=("name", "cells"))
        # what a model has of its own comes between the two
        row = {**self.content.get("defaults", {}), **given}
        for key, (given_spec, need) in schema.NESTED.items():
            spec = given_spec or dict.fromkeys(row.get(key, ()), "number")
            if key in row and (found := fault(row[key], spec, key, need)):
                raise self.text.error(found[1], "claim", key, nth)
        where = f"{self.text.name}:{self.text.line('claim', nth=nth)}"
        for cell, numbers in given["cells"].items():
            try:
                for alias, number in _by_model(numbers):
                    yield self.claim(given, cell, alias, number, where)
            except BadInput as e:
                raise self.text.error(f"cells.{cell}: {e}", "claim", f"cells.{cell}", nth) from e

    def claim(self, given: Row, cell: str, alias: str, number: object, where: str) -> Claim:
        """One claim of a row."""
        model = self.named("models", alias)
        own = {key: model[key] for key in ("data", "skip", "checkpoint") if key in model}
        row = {**self.content.get("defaults", {}), **own, **given}
        value, source = as_number(number), self.source(row, alias)
        scheme = None if cell == "fp" else scheme_of(cell, self.schemes)
        fp = value.get("fp", row.get("fp", {}).get(alias, model.get("fp"))) if scheme else None
        paper = row.get("paper", self.content["paper"])
        data, skip = row.get("data", ""), row.get("skip", "")
        claim = Claim(
            id="/".join((paper, data.partition("/")[0], alias, cell, row["name"])),
            paper=paper,
            kind=row.get("kind", "value" if scheme else "fp"),
            model=model["name"],
            data=data,
            published_on=row.get("published_on", data),
            method=row.get("method", "") if scheme else "",
            fields=as_fields(row.get("fields", {})) if scheme else (),
            scheme=scheme,
            rival=self.rival(row["rival"], scheme) if "rival" in row and scheme else None,
            metric=row.get("metric", "top1"),
            value=_number(value.get("value")),
            value_to=_number(value.get("to")),
            sd=_number(value.get("sd")),
            runs=row.get("runs") if "sd" in value else None,
            fp=_number(fp),
            fp_tol=float(row.get("fp_tol", 0.0)),
            tol=float(row.get("tol", 0.0)),
            tol_why=row.get("tol_why", ""),
            gates=row.get("gates", source.may_gate and not skip and row.get("kind") != "order"),
            seeds=tuple(range(row.get("seeds", 1))) if scheme else (0,),
            calib=CalibrationSet(**row["calib"]) if scheme and "calib" in row else None,
            follows=row.get("follows", "paper"),
            note=" ".join(x for x in (row.get("note"), model.get("note"), value.get("note")) if x),
            xfail=_xfail(row["xfail"]) if "xfail" in row else None,
            skip=skip,
            source=source,
            where=where,
            long=row.get("long", False),
            hours=float(row.get("hours", 0.0)),
            checkpoint=row.get("checkpoint", "other"),
        )
        if "kind" not in row and scheme and claim.drop is None:
            claim = replace(claim, kind="accuracy")
        claim = replace(claim, rounding=_rounding(claim, value, fp))
        sound(claim)
        return claim

    @property
    def schemes(self) -> Mapping[str, Mapping[str, Any]]:
        """The file's ``[schemes]``."""
        found: dict[str, dict[str, Any]] = self.content.get("schemes", {})
        return found

    def named(self, table: str, name: str) -> dict[str, Any]:
        """An entry of ``[models]`` or ``[sources]``."""
        known: dict[str, dict[str, Any]] = self.content.get(table, {})
        if not isinstance(name, str) or name not in known:
            raise BadInput(f"{name!r} is not in [{table}]{did_you_mean(str(name), known)}")
        return known[name]

    def source(self, row: Row, alias: str) -> Source:
        """Where the row's numbers come from."""
        if "source" not in row:
            known = ", ".join(self.content["sources"])
            raise BadInput(f"no source: name one of [sources] ({known})")
        s = self.named("sources", row["source"])
        arxiv = f", arXiv {self.content['arxiv']}" if "arxiv" in self.content else ""
        paper = s.get("paper", f"{self.content['title']}{arxiv}")
        place = s.get("table", ""), row.get("row", ""), row.get("column", alias)
        return Source(paper, *place, s["reported"], s["status"], s.get("seen", ""))

    def rival(self, given: Row, scheme: Scheme) -> Rival:
        """Whom to compare with: on the claim's own scheme unless it names another cell."""
        other = scheme_of(given["scheme"], self.schemes) if "scheme" in given else scheme
        return Rival(given["method"], as_fields(given.get("fields", {})), other)


def _number(given: float | None) -> float | None:
    return None if given is None else float(given)


def _xfail(given: Row) -> Xfail:
    return Xfail(float(given["number"]), given["date"], given["cause"])


def _rounding(claim: Claim, value: Row, fp: float | None) -> float:
    """What the printing of the number, as it was written, may hide; limits are exact."""
    given = [v for key in ("value", "to") if (v := value.get(key)) is not None]
    if not given or claim.kind == "max_drop" or claim.source.reported == "project":
        return 0.0
    subtracts = claim.drop is not None and not claim.metric.endswith("_drop") and fp is not None
    return max(map(half_unit, given)) + (half_unit(fp) if subtracts and fp is not None else 0.0)


def _by_model(numbers: object) -> list[tuple[Any, Any]]:
    """Pairs of model and number; a list of models has none."""
    if isinstance(numbers, dict) and numbers:
        return list(numbers.items())
    if isinstance(numbers, list) and numbers:
        return [(alias, {}) for alias in numbers]
    raise BadInput(f"{numbers!r} is neither a table of numbers by model nor a list of models")
