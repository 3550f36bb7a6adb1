"""Charts of one run as PNG, for where no browser draws them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from quantbench.report.charts import curves, rounding, shift
from quantbench.report.charts.spec import VEGA_LITE, Chart
from quantbench.report.page import assets

if TYPE_CHECKING:
    from quantbench.evidence.result import Result

WIDTH = 700  # pixels


def pictures(name: str, result: Result) -> Iterator[tuple[str, bytes]]:
    """File names and PNGs of what a run has curves of."""
    made = {
        "reconstruction.png": curves.curves_of({name: result.curves}),
        "shift.png": shift.shifts({name: result.curves}),
        "rounding.png": rounding.values_of({name: result.curves}),
    }
    yield from ((file, png(chart)) for file, chart in made.items() if chart)


def png(chart: Chart) -> bytes:
    """One chart in the light theme."""
    import vl_convert

    spec = {**_coloured(chart.spec), "width": WIDTH, "background": "white"}
    return bytes(vl_convert.vegalite_to_png(spec, vl_version=VEGA_LITE, scale=1.5))


def _coloured(spec: dict[str, Any]) -> dict[str, Any]:
    """A specification with the colours of the style sheet's light theme in place of their names."""
    light = assets.text("page.css").partition("@media")[0]
    colours = dict(re.findall(r"(--\w+): (#\w+)", light))
    text = re.sub(r"var\((--\w+)\)", lambda found: colours[found[1]], json.dumps(spec))
    coloured: dict[str, Any] = json.loads(text)
    return coloured
