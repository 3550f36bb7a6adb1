"""Rows of the report for a pipeline that corrects biases; needs no torch."""

from dataclasses import replace

from quantbench.claims import catalog
from quantbench.claims.claim import Rival
from quantbench.evidence.result import Result
from quantbench.evidence.verdict import Outcome, Verdict
from quantbench.report.bench import Row

CURVES = {
    f"shift/{stage}/{name}": (scale, 2 * scale, 4 * scale)
    for stage, scale in (("before", 0.1), ("after", 0.01))
    for name in ("mssr", "rqnsr", "share", "000 conv", "001 conv2", "002 fc")
}
EXTRA = {
    f"shift/before/{k}": 0.4 for k in ("output_mssr", "output_rqnsr", "output_share", "growth")
} | {f"shift/after/{k}": 0.04 for k in ("output_mssr", "output_rqnsr", "output_share", "growth")}


def row(method="nearest+ibc", note="", curves=CURVES, extra=EXTRA, seeds=1, fields=(), rival=None):
    claim = catalog.find(catalog.read_claims("bias"), "bias/imagenet/mobilenet_v2/w8a8/ibc")
    claim = replace(
        claim,
        method=method,
        fields=fields,
        note=note,
        rival=rival and Rival(rival, (), claim.scheme),
    )
    ok = [True, True, False, True]
    runs = {
        s: Result.of(ok, [s > 0, True, False, True], "d", curves=curves, extra=extra)
        for s in range(seeds)
    }
    verdict = Verdict(Outcome.REPRODUCED, gates=False)
    return Row(claim, verdict, {}, runs, 1.0, runs if rival else {})
