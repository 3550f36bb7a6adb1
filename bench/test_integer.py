"""The integer network of every finished integer claim: the same answers, and how fast."""

from __future__ import annotations

import numpy as np
import pytest

from quantbench.claims.claim import Claim
from quantbench.errors import DataMissing, Unsupported
from quantbench.evidence.result import Latency
from quantbench.report.bench import Bench
from quantbench.runs.timing import ROUNDS, find, layers_ms, race, record, scores
from quantbench.system.machine import fingerprint


def test_latency(
    integer_claim: Claim,
    backend: str,
    batch: int,
    quantbench: Bench,
    request: pytest.FixtureRequest,
) -> None:
    """Time one backend at one batch size beside float32.

    Native must agree with the simulation on every image.
    """
    lab = quantbench.lab
    try:
        cell = next(iter(lab.cells(integer_claim)[0].values()))
        result = lab.result(cell)
        if find(result, backend, batch):
            return  # timed on this machine before
        runners = race(lab, cell, backend, batch)
    except (DataMissing, Unsupported) as e:
        pytest.skip(str(e))
    answers = scores(cell, runners.compiled)
    if backend == "native":
        assert np.array_equal(answers, result.scores), (
            "the native kernels and the simulation disagree"
        )
    benchmark = request.getfixturevalue("benchmark")
    benchmark.group = f"{integer_claim.id} batch {batch}"
    benchmark.pedantic(runners.compiled, setup=runners.setup, rounds=ROUNDS, warmup_rounds=3)
    samples = tuple(1e3 * s for s in benchmark.stats.stats.data)
    reference = tuple(runners.reference_ms[-len(samples) :])
    score = result.value_of(answers)
    record(
        lab,
        cell,
        Latency(backend, batch, fingerprint(), samples, reference, score, layers_ms(runners)),
    )
