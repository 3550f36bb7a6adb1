"""Verdicts counted by paper, as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quantbench.report.charts.spec import Chart, chart_spec, heights, number, picked, tooltip, word

GROUPS = {
    "missed": "var(--bad)",
    "undecided": "var(--open)",
    "known miss": "var(--known)",
    "tie or behind": "var(--c6)",
    "agrees": "var(--good)",
}

ALL = "all tiers"


def verdicts(counts: Sequence[Mapping[str, str | int]], tiers: Sequence[str]) -> Chart:
    """Bars of the verdicts of every paper, misses first.

    Args:
        counts: ``paper``, ``tier``, ``group`` (see :data:`GROUPS`) and ``count``; a tier may be
            :data:`ALL`.
        tiers: that occur.

    """
    order = list(GROUPS)
    values = [{**row, "order": order.index(str(row["group"]))} for row in counts]
    rows = {
        tier: len({row["paper"] for row in counts if row["tier"] == tier}) for tier in (ALL, *tiers)
    }
    total = {"op": "sum", "field": "count", "order": "descending"}
    encoding = {
        "y": word("paper", None, sort=total),
        "x": number("count", "judged claims", axis={"tickMinStep": 1}),
        "order": {"field": "order"},
        "color": word(
            "group",
            None,
            scale={"domain": order, "range": list(GROUPS.values())},
            legend={"orient": "top", "symbolType": "square"},
        ),
        "opacity": {"condition": {"param": "picked", "value": 1}, "value": 0.1},
        "tooltip": tooltip(paper="paper", tier="tier", group="verdicts", count="claims"),
    }
    tier = {"name": "tier", "value": ALL}
    spec = chart_spec(
        "Verdicts by paper",
        values,
        **heights(rows),
        params=[tier, picked("group")],
        transform=[{"filter": "datum.tier === tier"}],
        mark={"type": "bar", "cornerRadius": 2, "height": 15},
        encoding=encoding,
    )
    caption = "Claims that were judged. A click on a word of the legend leaves these alone."
    return Chart("Verdicts by paper", caption, spec, "tier", (ALL, *tiers))
