"""The accepted baseline: has any cell changed since it was last looked at and accepted?

Two-sided, since an unexplained improvement is as suspicious as a loss. A cell changed if its test
says so, corrected for the number of cells tested, *and* the change is large enough to matter.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quantbench.errors import BadInput
from quantbench.evidence.bootstrap import bootstrap, spearman
from quantbench.evidence.intervals import Interval, Paired, paired
from quantbench.evidence.result import Result, unpack
from quantbench.evidence.significance import holm, mcnemar, normal
from quantbench.runs import pace
from quantbench.runs.ledger import Stored
from quantbench.system.atomic import write_atomically
from quantbench.system.seeds import seed_for

LEVEL = 0.05

# Points, 5 of 1,000 images: the tolerance that claims have, since re-runs of the same paper differ
# by as much. Smaller changes, however certain, are not worth stopping a run for: reconstruction on
# another processor is another seed.
MIN_EFFECT = 0.5

KEPT = ("digest", "metric", "n", "packing", "quantized", "gold")  # of a result


@dataclass(frozen=True)
class Change:
    """One cell against its baseline.

    Attributes:
        id: of the cell.
        status: ``identical`` (same network, same scores), ``unchanged``, ``worse``, ``better``,
            ``new`` (nothing accepted yet), ``other data`` (the accepted one saw other examples),
            ``absent`` (accepted, not asked for) or ``missing`` (accepted and asked for, but its run
            did not finish).
        before: accepted metric, in points.
        now: metric now.
        worse: examples that were right and are wrong now.
        better: the reverse.
        p: p-value, corrected for all cells tested together.

    """

    id: str
    status: str
    before: float | None = None
    now: float | None = None
    worse: int = 0
    better: int = 0
    p: float = 1.0

    @property
    def fails(self) -> bool:
        """Whether somebody must look: mend it, or accept it."""
        return self.status in ("worse", "better", "other data", "missing")

    def __str__(self) -> str:
        """One line for the terminal."""
        if self.status == "missing":
            known = f"{self.id}: missing, accepted with {self.before:.2f}"
            return f"{known}: its run did not finish, quantbench run says why"
        if self.before is None or self.now is None:
            return f"{self.id}: {self.status}"
        counts = f"{self.worse} examples worse, {self.better} better, p = {self.p:.2g}"
        detail = "" if self.status == "identical" else f" ({counts})"
        return f"{self.id}: {self.status}, {self.before:.2f} -> {self.now:.2f}{detail}"


@dataclass(frozen=True)
class Baseline:
    """Accepted cells by id, as the file holds them."""

    cells: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Baseline:
        """Read ``reference/baseline.json``; nothing is accepted where there is no file.

        Raises:
            BadInput: it is damaged.

        """
        if not path.exists():
            return cls({})
        try:
            cells = json.loads(path.read_text())["cells"]
            for cell in cells.values():
                _require_sound(cell)
            return cls(cells)
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise BadInput(
                f"{path} is damaged ({type(e).__name__}: {e}): take it from git again"
            ) from e

    def accept(self, records: Iterable[Stored], path: Path) -> Baseline:
        """Make these results the accepted ones and keep all others; the file changes at once."""
        cells = {**self.cells, **{r.id: _kept(r) for r in records}}
        lines = ",\n".join(
            f"{json.dumps(i)}: {json.dumps(cells[i], sort_keys=True)}" for i in sorted(cells)
        )
        # a line per cell, for readable diffs
        write_atomically(path, f'{{"cells": {{\n{lines}\n}}}}\n')
        return Baseline(cells)

    def identical(self, cell_id: str, digest: str, eval_digest: str) -> bool:
        """Whether a network is bit for bit the accepted one, on the same data."""
        known = self.cells.get(cell_id)
        return known is not None and (known["digest"], known["eval"]) == (digest, eval_digest)

    def compare_latency(self, records: Iterable[Stored]) -> list[pace.Pace]:
        """Latency rows of the runs and accepted ones of their cells."""
        return pace.compare(
            {i: c.get("latency", []) for i, c in self.cells.items()},
            {r.id: r.result for r in records},
        )

    def compare(self, records: Iterable[Stored], selected: Collection[str] = ()) -> list[Change]:
        """Every cell that is run or accepted, by id; ``selected``: those that should have run."""
        runs = {r.id: r for r in records}
        left = {i: "missing" if i in selected else "absent" for i in self.cells if i not in runs}
        changes = {i: Change(i, status, self.cells[i]["value"]) for i, status in left.items()}
        tested = {}
        for i, run in runs.items():
            known, now = self.cells.get(i), run.result.q_top1
            if known is None:
                changes[i] = Change(i, "new", now=now)
            elif (known["eval"], known["n"], known["metric"]) != _examples(run):
                changes[i] = Change(i, "other data", known["value"], now)
            elif (
                self.identical(i, run.result.digest, known["eval"])
                and known["quantized"] == run.result.quantized
            ):
                changes[i] = Change(i, "identical", known["value"], now)
            else:
                tested[i] = _effect(known, run.result)
        for (i, (effect, _)), p in zip(
            tested.items(), holm([p for _, p in tested.values()]), strict=True
        ):
            changed = p < LEVEL and abs(effect.value) >= MIN_EFFECT
            status = "unchanged" if not changed else "worse" if effect.value > 0 else "better"
            counts = (effect.b, effect.c) if isinstance(effect, Paired) else (0, 0)
            changes[i] = Change(
                i, status, self.cells[i]["value"], runs[i].result.q_top1, *counts, p
            )
        return [changes[i] for i in sorted(changes)]


def _require_sound(cell: Mapping[str, Any]) -> None:
    """Look at all that is read later; ValueError, KeyError or TypeError if it is no such thing."""
    unpack(cell["quantized"], cell["packing"], cell["n"])
    float(cell["value"]), [str(cell[k]) for k in ("digest", "metric", "eval", "gold")]
    for row in cell.get("latency", []):
        [str(row[k]) for k in ("backend", "batch", "machine")], [float(r) for r in row["ratios"]]


def _examples(run: Stored) -> tuple[str, int, str]:
    """What the scores are of: digest of the evaluation set, number of examples, metric."""
    return run.fields["eval_digest"], run.result.n, run.result.metric


def _kept(record: Stored) -> dict[str, Any]:
    """What the baseline keeps of a cell."""
    values = record.result.to_json()
    kept = {
        **{k: values[k] for k in KEPT},
        "value": record.result.q_top1,
        "eval": record.fields["eval_digest"],
    }
    return {**kept, "latency": pace.kept(record.result.latency)} if record.result.latency else kept


def _effect(accepted: Mapping[str, Any], now: Result) -> tuple[Interval, float]:
    """Points lost since the baseline, and the p-value of no change, McNemar's for correctness."""
    before = unpack(accepted["quantized"], accepted["packing"], accepted["n"])
    if now.gold:
        rng = np.random.default_rng(seed_for("bootstrap", 0))
        lost = bootstrap(
            lambda gold, a, b: spearman(a, gold) - spearman(b, gold),
            now.gold_scores,
            before,
            now.scores,
            rng=rng,
        )
        return lost, normal(lost.value, lost.se)
    change = paired(before, now.scores, bounded=now.metric != "map")
    exact = now.packing == "bits"
    return change, mcnemar(change.b, change.c) if exact else normal(change.value, change.se)
