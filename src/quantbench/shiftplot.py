"""Plot of the central diagnosis of bias correction: the mean activation shift over depth, before and after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from quantbench.svg import canvas, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from quantbench.pytest_plugin import Row

PLOTS = 6
_STAGES = {"before": "#b4441c", "after": "#1f4e9c"}
_SUMMARIES = ("mssr", "rqnsr", "share")


def all_of(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """(caption, SVG) for the first run of each claim that corrects biases; a few of them."""
    drawn = 0
    for row in rows:
        curves = next((r.curves for r in row.runs.values() if "shift/before/mssr" in r.curves), None)
        if curves is not None and drawn < PLOTS:
            drawn += 1
            yield f"{row.claim.id}: mean activation shift of every layer and channel", draw(curves)


def draw(curves: Mapping[str, Sequence[float]]) -> str:
    """SVG of one run.

    Args:
        curves: ``shift/before/...`` and ``shift/after/...`` as :func:`quantbench.shift.record` leaves them.

    """
    figure, axes = canvas(height=3.6)
    for stage, colour in _STAGES.items():
        _channels(axes, _layers(curves, stage), colour)
        rms = curves[f"shift/{stage}/mssr"]
        axes.plot(range(len(rms)), rms, "o-", color=colour, label=f"shift {stage}, root mean square (MSSR)")
        noise = curves[f"shift/{stage}/rqnsr"]
        axes.plot(range(len(noise)), noise, ":", color=colour, label=f"whole error {stage} (rQNSR)")
    axes.set_yscale("symlog", linthresh=0.01)
    axes.set_xlabel("layer, in order of execution; dots: channels")
    axes.set_ylabel("standard deviations of the layer")
    axes.legend(fontsize=7)
    return svg(figure)


def _layers(curves: Mapping[str, Sequence[float]], stage: str) -> list[Sequence[float]]:
    """Shift of every channel, layer by layer."""
    names = sorted(name for name in curves if name.startswith(f"shift/{stage}/"))  # they begin with the layer's number
    return [curves[name] for name in names if name.rpartition("/")[2] not in _SUMMARIES]


def _channels(axes: Axes, layers: Sequence[Sequence[float]], colour: str) -> None:
    """One dot per channel, side by side within its layer."""
    x = [i + 0.6 * (c / max(1, len(layer)) - 0.5) for i, layer in enumerate(layers) for c in range(len(layer))]
    axes.plot(x, [v for layer in layers for v in layer], ",", color=colour, alpha=0.4)
