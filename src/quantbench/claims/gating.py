"""A digest of everything in a claim that can change its verdict, to notice when one is retargeted.

What a run leaves out because it takes too long has no verdict, so that is in it too. Names, notes,
reasons and the place of the row in its file are not: they may be improved at any time.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from quantbench.claims.claim import Claim
from quantbench.quantization.scheme import Scheme

GATING = (
    *("kind", "model", "checkpoint", "data", "published_on", "method", "fields", "scheme", "rival"),
    *("metric", "value", "value_to", "rounding", "sd", "runs", "fp", "fp_tol", "tol", "gates"),
    *("seeds", "calib", "long", "hours"),
)

# what came later than the first accepted claims, which have no such field: left out at its default
LATER = {"long": Claim.long, "hours": Claim.hours}


def gating_fields(claim: Claim) -> dict[str, Any]:
    """The fields of :data:`GATING`, the number of a known miss, and the source's status: plain.

    Whoever finds a changed digest can say which field it was, from what to what.
    """
    everything = asdict(claim)
    at_default = {name for name, default in LATER.items() if everything[name] == default}
    chosen = {name: everything[name] for name in GATING if name not in at_default}
    for scheme in (chosen["scheme"], (chosen["rival"] or {}).get("scheme")):
        # one that came later, too
        if scheme and scheme["edge_acts"] == Scheme.edge_acts:
            del scheme["edge_acts"]
    chosen["xfail"] = claim.xfail and claim.xfail.number
    chosen["source"] = [claim.source.reported, claim.source.status]
    plain: dict[str, Any] = json.loads(json.dumps(chosen))
    return plain


def gating_digest(claim: Claim) -> str:
    """The first 16 hexadecimal digits of the sha256 of :func:`gating_fields`."""
    text = json.dumps(gating_fields(claim), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
