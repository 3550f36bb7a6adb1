"""Matplotlib figures as SVG text; drawn without any display."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def canvas(*, height: float) -> tuple[Figure, Axes]:
    """A figure outside of any window system."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, height), layout="constrained")
    return figure, figure.add_subplot()


def stack(*, height: float, ratios: Sequence[float]) -> tuple[Figure, tuple[Axes, ...]]:
    """The same with several axes above each other that share their x."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, height), layout="constrained")
    return figure, tuple(figure.subplots(len(ratios), sharex=True, height_ratios=ratios))


def svg(figure: Figure) -> str:
    """SVG element without the XML prologue; dates and ids are fixed: equal data, equal files."""
    import matplotlib as mpl

    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "quantbench", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    drawn = text.getvalue()
    return drawn[drawn.index("<svg") :]
