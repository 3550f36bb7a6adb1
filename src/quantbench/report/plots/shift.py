"""Plot of the central diagnosis of bias correction: the mean activation shift over depth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from quantbench.report.plots.drawing import Drawing
from quantbench.report.plots.svg import stack, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from quantbench.report.bench import Row


PLOTS = 12

_STAGES = {"before": "#b4441c", "after": "#1f4e9c"}

_SUMMARIES = ("mssr", "rqnsr", "share")


def all_of(rows: Sequence[Row]) -> Iterator[Drawing]:
    """The first run of each pipeline that corrects biases, by network and scheme; a few of them."""
    drawn: set[object] = set()
    for row in rows:
        runs = row.runs.values()
        curves = next((r.curves for r in runs if "shift/before/mssr" in r.curves), None)
        about = row.claim.model, row.claim.scheme, row.claim.method
        if curves is not None and about not in drawn and len(drawn) < PLOTS:
            drawn.add(about)
            what = "mean activation shift of every layer and channel"
            yield Drawing(f"{row.claim.id}, {row.claim.method}: {what}", draw, (curves,))


def draw(curves: Mapping[str, Sequence[float]]) -> str:
    """SVG of one run: the shift over depth.

    Below it stands the part of each layer's squared error that is the shift.

    Args:
        curves: ``shift/before/...`` and ``shift/after/...`` as
            :func:`quantbench.calibration.shift.record` leaves them.

    """
    figure, (upper, lower) = stack(height=4.8, ratios=(3, 1))
    for stage, colour in _STAGES.items():
        _channels(upper, list(per_layer(curves, stage).values()), colour)
        rms, noise = curves[f"shift/{stage}/mssr"], curves[f"shift/{stage}/rqnsr"]
        shift, error = f"shift {stage}, root mean square (MSSR)", f"whole error {stage} (rQNSR)"
        upper.plot(range(len(rms)), rms, "o-", color=colour, label=shift)
        upper.plot(range(len(noise)), noise, ":", color=colour, label=error)
        lower.plot(range(len(rms)), curves[f"shift/{stage}/share"], "o-", color=colour)
    upper.set_yscale("symlog", linthresh=0.01)
    upper.set_ylabel("standard deviations of the layer")
    upper.legend(fontsize=7)
    lower.set_ylim(0, 1)
    lower.set_ylabel("share of error")
    lower.set_xlabel("layer, in order of execution; dots: channels")
    return svg(figure)


def per_layer(curves: Mapping[str, Sequence[float]], stage: str) -> dict[str, Sequence[float]]:
    """Shift of every channel by name of the layer, in execution order."""
    # they begin with the layer's number
    names = sorted(name for name in curves if name.startswith(f"shift/{stage}/"))
    return {
        name.partition(" ")[2]: curves[name]
        for name in names
        if name.rpartition("/")[2] not in _SUMMARIES
    }


def _channels(axes: Axes, layers: Sequence[Sequence[float]], colour: str) -> None:
    """One dot per channel, side by side within its layer, as an image: there are thousands."""
    x = [
        i + 0.6 * (c / max(1, len(layer)) - 0.5)
        for i, layer in enumerate(layers)
        for c in range(len(layer))
    ]
    y = [value for layer in layers for value in layer]
    axes.plot(x, y, ",", color=colour, alpha=0.4, rasterized=True)
