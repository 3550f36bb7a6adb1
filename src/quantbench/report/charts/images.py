"""Accuracy against the number of calibration images, where claims differ in nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quantbench.report.charts.spec import (
    AFTER,
    QUIET,
    Chart,
    chart_spec,
    number,
    only,
    rounded,
    tooltip,
)


def images_of(lines: Mapping[str, Mapping[int, Sequence[float]]]) -> Chart | None:
    """Mean and range over seeds, by pipeline; ``None`` where there is no line.

    Args:
        lines: accuracies of the seeds by number of images, by pipeline.

    """
    if not lines:
        return None
    values = [
        {
            "pipeline": name,
            "images": images,
            "accuracy": rounded(sum(line[images]) / len(line[images]), 6),
            "low": rounded(min(line[images]), 6),
            "high": rounded(max(line[images]), 6),
        }
        for name, line in lines.items()
        for images in sorted(line)
    ]
    chosen = only("pipeline", next(iter(lines)))
    x = number("images", "images that biases are corrected on", scale={"type": "log", "base": 2})
    y = {"scale": {"zero": False}}
    shown = tooltip(images="images", accuracy="accuracy", low="worst_seed", high="best_seed")
    spec = chart_spec(
        _TITLE,
        values,
        height=260,
        **chosen,
        layer=[
            {
                "mark": {"type": "rule", "color": QUIET},
                "encoding": {
                    "x": x,
                    "y": number("low", "accuracy, %", **y),
                    "y2": {"field": "high"},
                },
            },
            {
                "mark": {"type": "line", "point": {"color": AFTER}, "color": AFTER},
                "encoding": {"x": x, "y": number("accuracy", "accuracy, %", **y), "tooltip": shown},
            },
        ],
    )
    return Chart(_TITLE, "Grey: range over seeds.", spec, "pipeline", tuple(lines))


_TITLE = "Accuracy against calibration images"
