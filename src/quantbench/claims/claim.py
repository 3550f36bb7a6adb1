"""One claim: a published number, or what must hold here, with everything needed to judge it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from quantbench.claims.source import Source
from quantbench.claims.words import apart, call, scheme_words
from quantbench.quantization.scheme import Scheme

Kind = Literal["value", "fp", "accuracy", "max_drop", "beats", "order"]

Checkpoint = Literal["authors", "quantized", "other"]

Tier = Literal["embedded", "long", "real", "online"]

Fields = tuple[tuple[str, Any], ...]  # hashable; dict(fields) gives the arguments of the method

KINDS: Mapping[str, str] = {
    "value": "our drop is the given drop: the 95 % interval of the difference is in the tolerance",
    "fp": "the full-precision model has the given accuracy, by the same test",
    "accuracy": (
        "our number is the given number, by the same test, "
        "where the source gives no full precision to take a drop from"
    ),
    "max_drop": "our drop is at most the limit, its 95 % interval included",
    "beats": "our drop is below the rival's, the paired 95 % interval excluding zero",
    "order": "our drop against the rival's, for the record: a tie is shown as a tie",
}

METRICS: Mapping[str, str] = {
    "top1": "top-1 accuracy, %",
    "top1_drop": "top-1 accuracy lost, points",
    "top5_drop": "top-5 accuracy lost, points",
    "top1_gain": "top-1 accuracy gained over the best earlier method, points",
    "miou": "mean intersection over union, %",
    "map": "mean average precision, %",
    "f1": "F1, %",
    "spearman": "Spearman correlation, x 100",
    "perplexity": "perplexity, lower is better",
    "log_likelihood": "log-likelihood, hundredths of a nat per token",
    "minutes": "minutes of quantization",
    "int4_layers": "layers at 4 bits, all others at 8",
    "size_fraction": "size of the weights as a fraction of float32",
}

PERCENT = ("top1", "miou", "map", "f1", "spearman")

NEGATIVE = ("log_likelihood",)  # at most 0

_REAL = (
    "cifar10/test",
    "imagenet/val_1300",
    "imagenet/val_1300_floor",
    "imagenet/val_1000_eval",
    "coco/first128",
    "coco/first128_eval",
    "voc/seg48",
    "coco/seg100",
    "wikitext2/test",
    "wikitext2/test_128",
)

_EMBEDDED = ("shapes/", "qa/", "scenes/")


@dataclass(frozen=True)
class Rival:
    """What a ``beats`` or ``order`` claim compares with, on the same images and calibration set."""

    method: str
    fields: Fields
    scheme: Scheme


@dataclass(frozen=True)
class Xfail:
    """A known miss, kept as it was found: the claim stays and a new one may stand beside it.

    Attributes:
        number: what was measured, in the unit that the verdict compares: the drop where the source
            gives one, else the metric; the advantage of a comparison.
        date: of the measurement, ``YYYY-MM-DD``.
        cause: why the claim is missed, as far as it is known.

    """

    number: float
    date: str
    cause: str

    def __str__(self) -> str:
        """Such as ``known miss: 1.8 on 2026-11-29, the paper's preprocessing is unknown``."""
        return f"known miss: {self.number:g} on {self.date}, {self.cause}"


@dataclass(frozen=True)
class CalibrationSet:
    """``n`` examples of a named set."""

    data: str
    n: int


@dataclass(frozen=True)
class Claim:
    """One published cell, or one thing that must hold here.

    Attributes:
        id: ``<paper>/<data>/<model>/<scheme>/<row>``, unique over everything loaded.
        paper: short name of the paper it belongs to.
        kind: how it is judged, see :data:`KINDS`.
        model: name in the registry of models.
        data: evaluation set.
        published_on: the set that the number was published for; when it is not ``data``, ``data``
            is a subset of it and the sampling interval of the subset is added.
        method: name in the registry of methods, ``a+b`` for b applied to what a quantized; empty
            for full precision.
        fields: overrides of the method's hyperparameters.
        scheme: what is quantized; ``None`` for the full-precision model.
        rival: for ``beats`` and ``order``.
        metric: see :data:`METRICS`.
        value: the number, in the metric's unit; the limit of a ``max_drop``; ``None`` when the
            claim compares methods.
        value_to: upper end where a range was published.
        sd: published standard deviation.
        runs: number of runs behind ``sd``.
        fp: full precision as the source has it.
        fp_tol: how far our full precision may be from it before the verdict is WRONG-BASE.
        tol: half-width of the accepted band around the number, beside the sampling interval.
        tol_why: the reason for both tolerances.
        gates: whether a miss fails the run.
        seeds: one run each.
        calib: calibration set, ``None`` for none.
        follows: whether the settings are those of the paper's text or of its code.
        note: what the scheme does not say.
        xfail: the known miss; ``None`` if it is expected to pass.
        skip: why it cannot run here whatever data there is; empty if it can.
        source: where the number stands.
        where: file and line of the row.
        long: whether its runs are too long for the embedded tier.
        hours: what its runs take on two cores, about, where that is more than an afternoon has; 0
            where nobody said.
        checkpoint: whose weights these are: the full-precision ones behind the number, of its
            ``authors``; those of the network that they ``quantized`` and released; or any
            ``other``.
        rounding: what the printing may have rounded away from a published number, in the metric's
            unit: half a unit of its last digit, and of that of ``fp`` where a drop is taken.

    """

    id: str
    paper: str
    kind: Kind
    model: str
    data: str
    published_on: str
    method: str
    fields: Fields
    scheme: Scheme | None
    rival: Rival | None
    metric: str
    value: float | None
    value_to: float | None
    sd: float | None
    runs: int | None
    fp: float | None
    fp_tol: float
    tol: float
    tol_why: str
    gates: bool
    seeds: tuple[int, ...]
    calib: CalibrationSet | None
    follows: Literal["paper", "code"]
    note: str
    xfail: Xfail | None
    skip: str
    source: Source
    where: str
    long: bool = False
    hours: float = 0.0
    checkpoint: Checkpoint = "other"
    rounding: float = 0.0

    @property
    def drop(self) -> float | None:
        """Published drop in points (positive is worse); ``None`` where the source gives none."""
        if self.value is None or self.kind in ("fp", "accuracy"):
            return None
        if self.metric.endswith("_drop") or self.kind == "max_drop":
            return self.value
        return self.fp - self.value if self.fp is not None and self.metric in PERCENT else None

    @property
    def tier(self) -> Tier:
        """What its runs need.

        ``embedded`` and ``long`` run from a bare clone, ``real`` needs the DVC data, ``online``
        official sources.
        """
        if self.data.startswith(_EMBEDDED):
            return "long" if self.long else "embedded"
        here = self.data in _REAL or self.data.startswith("stsb/")
        return "real" if here and not self.model.startswith("torchvision/") else "online"

    @property
    def words(self) -> tuple[str, ...]:
        """What a selection expression is matched against."""
        about = (self.paper, self.method, self.model, self.kind, self.tier, self.data)
        return (self.id, *about, self.source.reported, self.source.status)

    @property
    def asks(self) -> str:
        """The claim in one table cell, such as ``published 68.71 (0.97)``: accuracy and drop."""
        if self.rival:
            return f"{'below' if self.kind == 'beats' else 'against'} {self._other(self.rival)}"
        number = f"{self.value:g}" + (f" to {self.value_to:g}" if self.value_to is not None else "")
        if self.kind == "max_drop":
            return f"drop <= {number}"
        whose = "here" if self.source.reported == "project" else "published"
        if self.drop is None or self.metric.endswith("_drop"):
            return f"{whose} {number}"
        return f"{whose} {number} ({self.drop:.2f})"

    def _other(self, rival: Rival) -> str:
        """The rival by what distinguishes it."""
        alike = (rival.method, rival.fields) == (self.method, self.fields)
        method = "the same" if alike else call(rival.method, rival.fields)
        scheme = apart(rival.scheme, self.scheme) if self.scheme else ""
        return f"{method} with {scheme}" if scheme else method

    def describe(self) -> str:
        """Everything about the claim, one aspect a line, for ``quantbench show``."""
        lines = {**self._number(), **self._setting(), **self._standing()}
        return "\n".join([self.id, *(f"  {k:<16}  {v}" for k, v in lines.items() if v)])

    def _number(self) -> dict[str, str]:
        """What is claimed, in words."""
        lines = {"claim": f"{self.asks} [{METRICS[self.metric]}]: {KINDS[self.kind]}"}
        if self.sd is not None:
            lines["spread"] = f"sd {self.sd:g} over {self.runs or 'an unstated number of'} runs"
        if self.fp is not None:
            lines["full precision"] = f"{self.fp:g} in the source, ours within {self.fp_tol:g}"
        return lines

    def _setting(self) -> dict[str, str]:
        """What is run, in words."""
        method = f"{call(self.method, self.fields)}, as in the {self.follows}"
        lines = {
            "method": method if self.method else "none",
            "scheme": scheme_words(self.scheme) if self.scheme else "full precision",
        }
        if rival := self.rival:
            lines["rival"] = f"{call(rival.method, rival.fields)}, {scheme_words(rival.scheme)}"
        lines["model"] = f"{self.model} on {self.data} ({self.tier})"
        if self.checkpoint != "other":
            quantized = ", quantized by them" if self.checkpoint == "quantized" else ""
            lines["weights"] = f"the authors' own{quantized}"
        if self.published_on != self.data:
            lines["published on"] = f"all of {self.published_on}"
        if self.calib:
            lines["calibration"] = f"{self.calib.n} of {self.calib.data}"
        hours = {"hours": f"about {self.hours:g} on two cores"} if self.hours else {}
        return lines | {"seeds": f"{len(self.seeds)}"} | hours

    def _standing(self) -> dict[str, str]:
        """What rests on it, in words."""
        return {
            "tolerance": f"{self.tol:g}: {self.tol_why}" if self.tol_why else "",
            "source": str(self.source),
            "gates": "yes" if self.gates else "no",
            "note": self.note,
            "expected to fail": str(self.xfail or ""),
            "skipped": self.skip,
        }
