"""What a run found: per-example scores, times and curves; plain values that JSON can hold."""

from __future__ import annotations

import base64
import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantbench.errors import BadInput


@dataclass(frozen=True)
class Latency:
    """Times of one integer backend.

    Attributes:
        backend: its name.
        batch: examples per call.
        machine: :func:`quantbench.system.machine.fingerprint` of where it was timed.
        samples_ms: one call each, in milliseconds.
        reference_ms: float32 calls of the same network, interleaved one for one with the samples;
            may be empty.
        score: the metric as this integer run itself gave it, in points.
        layers_ms: median time by layer.

    """

    backend: str
    batch: int
    machine: str
    samples_ms: tuple[float, ...]
    reference_ms: tuple[float, ...] = ()
    score: float | None = None
    layers_ms: Mapping[str, float] = field(default_factory=dict)

    def percentile(self, q: float) -> float:
        """Percentile of the samples, in milliseconds."""
        return float(np.percentile(self.samples_ms, q))


@dataclass(frozen=True)
class Result:
    """What a cell found; make it with :meth:`of`.

    Per-example scores are kept, since paired statistics need them.

    Attributes:
        digest: of the quantized network.
        metric: ``spearman`` correlates similarities with ``gold``, ``miou`` adds the counts of all
            examples; any other is the mean of the scores, in 0..1 but for the jackknife values of
            ``map`` and the nats per token of ``log_likelihood``, which are negative.
        n: examples.
        packing: ``bits`` of correctness or ``f4`` (float32), base64.
        fp: packed scores of the full-precision network.
        quantized: the same of the quantized network.
        gold: packed reference similarities, for ``spearman`` only.
        size_bytes: weights of the quantized network.
        seconds: time by phase.
        curves: objective by layer, one value per logged iteration.
        latency: integer backends.
        extra: any other number or text by name.

    """

    digest: str
    metric: str
    n: int
    packing: Literal["bits", "f4"]
    fp: str
    quantized: str
    gold: str = ""
    size_bytes: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    latency: tuple[Latency, ...] = ()
    extra: Mapping[str, float | str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        fp: ArrayLike,
        quantized: ArrayLike,
        digest: str,
        *,
        metric: str = "top1",
        gold: ArrayLike | None = None,
        **rest: Any,
    ) -> Result:
        """Pack scores of shape (n,).

        They are bool for correctness, fractions for F1, similarities with their ``gold``; and of
        ``miou`` counts of shape (n, 3 C), see :func:`quantbench.evidence.bootstrap.mean_iou`.

        Raises:
            BadInput: no examples, different shapes, or a score that is not finite.

        """
        arrays = [np.asarray(a) for a in (fp, quantized, *([] if gold is None else [gold]))]
        shapes, n = [a.shape for a in arrays], len(arrays[0]) if arrays[0].ndim else 0
        alike = arrays[0].shape if metric == "miou" else (n,)
        if arrays[0].size == 0 or any(shape != alike for shape in shapes):
            raise BadInput(f"scores of shapes {shapes}: all must be (n,) with the same n > 0")
        if not all(bool(np.isfinite(a).all()) for a in arrays):
            raise BadInput("a score is NaN or infinite: the quantized network's output is broken")
        correctness = all(a.dtype == np.bool_ for a in arrays)
        packing: Literal["bits", "f4"] = "bits" if correctness else "f4"
        own, ours, *packed_gold = (pack(a, packing) for a in arrays)
        return cls(digest, metric, n, packing, own, ours, "".join(packed_gold), **rest)

    @property
    def fp_scores(self) -> NDArray[Any]:
        """Scores of the full-precision network, (n,), or (n, 3 C) for ``miou``."""
        return self._unpack(self.fp)

    @property
    def scores(self) -> NDArray[Any]:
        """Scores of the quantized network, (n,), or (n, 3 C) for ``miou``."""
        return self._unpack(self.quantized)

    @functools.cached_property
    def fp_top1(self) -> float:
        """The metric of the full-precision network, in points."""
        return self.value_of(self.fp_scores)

    @functools.cached_property
    def q_top1(self) -> float:
        """The metric of the quantized network, in points."""
        return self.value_of(self.scores)

    @property
    def drop(self) -> float:
        """Full precision minus quantized, in points."""
        return self.fp_top1 - self.q_top1

    @property
    def gold_scores(self) -> NDArray[Any]:
        """Reference similarities, (n,)."""
        return self._unpack(self.gold)

    def value_of(self, scores: NDArray[Any]) -> float:
        """The metric of given scores, in points."""
        if self.metric == "spearman":
            from quantbench.evidence.bootstrap import spearman

            return float(spearman(scores, self.gold_scores))
        if self.metric == "miou":
            from quantbench.evidence.bootstrap import mean_iou

            return float(mean_iou(scores))
        return 100 * float(scores.mean(dtype=np.float64))

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the summary numbers added for whoever reads the file."""
        return {**asdict(self), "fp_top1": self.fp_top1, "q_top1": self.q_top1, "drop": self.drop}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Result:
        """The result again.

        Raises:
            TypeError: a value is missing, unknown or of another kind.
            ValueError: the scores do not give the stored summary.

        """
        given = {k: v for k, v in values.items() if k not in ("fp_top1", "q_top1", "drop")}
        rows = tuple(
            Latency(**{k: _tuple(v) for k, v in row.items()}) for row in given.pop("latency")
        )
        curves = {k: tuple(v) for k, v in given.pop("curves").items()}
        result = cls(**given, curves=curves, latency=rows)
        if wrong := [name for name, right in _kinds(result) if not right]:
            raise TypeError(f"{wrong[0]} is not of its kind")
        if not math.isclose(result.drop, values["drop"], abs_tol=1e-9):
            raise ValueError(
                f"scores give a drop of {result.drop}, the summary says {values['drop']}"
            )
        return result

    def _unpack(self, packed: str) -> NDArray[Any]:
        return unpack(packed, self.packing, self.n)


def pack(scores: NDArray[Any], packing: Literal["bits", "f4"]) -> str:
    """Base64 of scores (n,) or (n, k), one bit or one little-endian float32 each."""
    bits = packing == "bits"
    raw = np.packbits(scores.astype(bool)) if bits else scores.astype("<f4")
    return base64.b64encode(raw.tobytes()).decode()


def unpack(packed: str, packing: Literal["bits", "f4"], n: int) -> NDArray[Any]:
    """The scores again, (n,), bool or float32; or float32 (n, k) where there are k an example.

    Raises:
        ValueError: not base64, or another number of scores.

    """
    if n < 1:
        raise ValueError(f"scores of {n} examples")
    raw = base64.b64decode(packed, validate=True)
    if packing == "bits":
        if len(raw) != -(-n // 8):
            raise ValueError(f"{len(raw)} bytes do not hold {n} scores")
        return np.unpackbits(np.frombuffer(raw, np.uint8), count=n).astype(bool)
    if not raw or len(raw) % (4 * n):
        raise ValueError(f"{len(raw)} bytes do not hold the same number of scores for {n} examples")
    scores = np.frombuffer(raw, "<f4")
    return scores if len(scores) == n else scores.reshape(n, -1)


def _kinds(r: Result) -> Iterator[tuple[str, bool]]:
    """Of what a reader relies on without looking: its name, and whether it is of its kind."""
    yield "digest", isinstance(r.digest, str)
    yield "n", isinstance(r.n, int) and r.n > 0
    yield "packing", r.packing in ("bits", "f4")
    yield "size_bytes", isinstance(r.size_bytes, int)
    yield "seconds", _numbers(r.seconds.values())
    yield "curves", all(map(_numbers, r.curves.values()))
    yield "extra", _numbers(v for v in r.extra.values() if not isinstance(v, str))
    for row in r.latency:
        yield "backend", isinstance(row.backend, str) and isinstance(row.machine, str)
        yield "batch", isinstance(row.batch, int)
        yield "samples_ms", bool(row.samples_ms) and _numbers(row.samples_ms)
        yield "reference_ms", _numbers(row.reference_ms)
        yield "layers_ms", _numbers(row.layers_ms.values())
        yield "score", row.score is None or _numbers([row.score])


def _numbers(values: Iterable[object]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
