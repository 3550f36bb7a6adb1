"""The leaderboard as a chart: the interval of every method's rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from quantbench.report.charts.spec import SERIES, Chart, chart_spec, heights, number, tooltip, word


@dataclass(frozen=True)
class Placed:
    """A method's place on one board.

    Attributes:
        board: what was compared, such as a network with a scheme.
        method: in full.
        rank: mean over draws of the examples; 1 is best.
        low: lower end of its 95 % interval.
        high: upper end.
        accuracy: in points, mean over the board's cells and seeds.
        tie: number of the group of methods that cannot be told from the group's best, from 1.

    """

    board: str
    method: str
    rank: float
    low: float
    high: float
    accuracy: float
    tie: int


def ranks(placed: Sequence[Placed]) -> Chart:
    """One board at a time, best first."""
    boards = tuple(dict.fromkeys(p.board for p in placed))
    values = [{**asdict(p), "group": f"group {p.tie}"} for p in placed]
    groups = [f"group {i}" for i in range(1, 1 + max(p.tie for p in placed))]
    scale = {"domain": groups, "range": [SERIES[i % len(SERIES)] for i in range(len(groups))]}
    x = {"scale": {"zero": False, "nice": False, "padding": 12}, "axis": {"tickMinStep": 1}}
    colour = word("group", None, scale=scale, legend=None)
    shown = tooltip(method="method", accuracy="accuracy", rank="mean_rank", low="from", high="to")
    rule = {
        "mark": {"type": "rule", "strokeWidth": 8, "opacity": 0.35, "strokeCap": "round"},
        "encoding": {"x": number("low", "rank", **x), "x2": {"field": "high"}, "color": colour},
    }
    dot = {
        "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
        "encoding": {"x": number("rank", "rank"), "color": colour, "tooltip": shown},
    }
    by = {"field": "accuracy", "op": "max", "order": "descending"}
    title = "Leaderboard: intervals of ranks"
    spec = chart_spec(
        title,
        values,
        **heights({board: sum(p.board == board for p in placed) for board in boards}),
        params=[{"name": "board", "value": boards[0]}],
        transform=[{"filter": "datum.board === board"}],
        encoding={"y": word("method", None, sort=by)},
        layer=[rule, dot],
    )
    return Chart(title, _CAPTION, spec, "board", boards)


_CAPTION = (
    "95 % of the ranks that a method takes when the examples are drawn anew, the same draws for "
    "all. Methods of one colour are a tie: their answers on these examples do not tell them from "
    "the best of the group."
)
