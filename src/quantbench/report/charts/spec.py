"""What all charts share: a specification with its words, and the parts that they are made of.

A chart is a Vega-Lite specification, plain JSON, that a browser draws; nothing is drawn here.
Colours are variables of the page's style sheet, so that a chart follows the reader's theme without
being drawn again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"

VEGA_LITE = "6.1"  # of the bundle that draws them

Spec = dict[str, Any]

Values = Sequence[Mapping[str, Any]]

INK, QUIET, BAND = "var(--ink)", "var(--quiet)", "var(--band)"

BEFORE, AFTER = "var(--c2)", "var(--c1)"

SERIES = tuple(f"var(--c{i})" for i in range(1, 11))  # colours that are told apart in both themes

SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down")

STEP = 24  # pixels of a line of text


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
        title: stands above it, and names it for who cannot see it.
        caption: stands below it: how to read it.
        spec: the Vega-Lite specification.
        keys: values of ``signal`` that it has something to show for.
        signal: name of the parameter that a control of the page sets; empty for none.

    """

    title: str
    caption: str
    spec: Spec
    signal: str = ""
    keys: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        """Short and unique within a page."""
        return "chart-" + hashlib.sha256(self.title.encode()).hexdigest()[:8]

    def json(self) -> str:
        """The specification as text that may stand within an HTML script element."""
        return in_script(json.dumps(self.spec, separators=(",", ":"), allow_nan=False))


def in_script(text: str) -> str:
    """JSON that may stand within an HTML script element, which only ``</script>`` would end."""
    return text.replace("<", "\\u003c")


def chart_spec(title: str, values: Values, **parts: Any) -> Spec:
    """A specification as wide as its place.

    Args:
        title: describes it for who cannot see it.
        values: rows of plain values.
        parts: ``mark``, ``layer``, ``encoding``, ``height`` and so on.

    """
    about: Spec = {"$schema": SCHEMA, "description": title, "width": "container"}
    about |= {"autosize": {"type": "fit-x", "contains": "padding"}}
    return {**about, "data": {"values": list(values)}, "height": 300, **parts}


def heights(rows: Mapping[str, int]) -> Spec:
    """Height of a chart with a line of text for each row, and that of every choice.

    Args:
        rows: how many there are, by what can be chosen; the first is.

    """
    pixels = {choice: STEP * max(2, n) for choice, n in rows.items()}
    return {"height": next(iter(pixels.values())), "usermeta": {"heights": pixels}}


def only(signal: str, value: str, name: str = "") -> Spec:
    """Parts of a specification that keep the rows whose ``signal`` field is the one chosen.

    Args:
        signal: name of the parameter.
        value: chosen at first.
        name: of the field, if it is another.

    """
    kept = {"filter": f"datum[{json.dumps(name or signal)}] === {signal}"}
    return {"params": [{"name": signal, "value": value}], "transform": [kept]}


def zoom(name: str = "zoom", axes: Sequence[str] = ("x", "y")) -> Spec:
    """Drag to move; the wheel zooms while shift is held, and scrolls the page otherwise."""
    wheel = "wheel![event.shiftKey]"
    select = {"type": "interval", "encodings": list(axes), "zoom": wheel}
    return {"name": name, "select": select, "bind": "scales"}


def picked(by: str, name: str = "picked") -> Spec:
    """A click on the legend leaves what was clicked on."""
    return {"name": name, "select": {"type": "point", "fields": [by]}, "bind": "legend"}


def faded(name: str = "picked", shown: float = 0.9) -> Spec:
    """Opacity of what the legend picked, and of all else."""
    return {"condition": {"param": name, "value": shown}, "value": 0.08}


def number(name: str, title: str, **more: Any) -> Spec:
    """A quantitative channel."""
    return {"field": name, "type": "quantitative", "title": title, **more}


def word(name: str, title: str | None, **more: Any) -> Spec:
    """A nominal channel."""
    return {"field": name, "type": "nominal", "title": title, **more}


def tooltip(**named: str) -> list[Spec]:
    """What hovering shows: titles by field; underscores in titles stand for spaces."""
    return [{"field": k, "title": v.replace("_", " ")} for k, v in named.items()]


def series(names: Iterable[str]) -> Spec:
    """A scale that gives each name a colour, the same in every chart with the same names."""
    domain = list(dict.fromkeys(names))
    return {"domain": domain, "range": [SERIES[i % len(SERIES)] for i in range(len(domain))]}


def shapes(names: Iterable[str]) -> Spec:
    """A scale that gives each name a shape: where colours begin anew, shapes differ."""
    domain = list(dict.fromkeys(names))
    chosen = [SHAPES[i // len(SERIES) % len(SHAPES)] for i in range(len(domain))]
    return {"domain": domain, "range": chosen}


def rounded(value: float, digits: int = 4) -> float:
    """A number with so many significant digits: pages carry thousands of them."""
    return float(f"{value:.{digits}g}")
