"""One self-contained HTML page: verdicts, plots, and how each verdict came about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING

from quantbench.evidence.verdict import AGREES, MISSES, Outcome
from quantbench.report import shift_tables, table
from quantbench.report.plots import collection
from quantbench.report.plots.drawing import Drawing

if TYPE_CHECKING:
    from quantbench.report.bench import Row


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c }
body { margin: 2rem auto; max-width: 80rem; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; font-size: 13px }
td, th { padding: .3rem .6rem; text-align: left }
tr { border-bottom: 1px solid #ddd } th { border-bottom: 2px solid #888 }
figure { margin: 1rem 0 } svg { max-width: 100% }
pre { white-space: pre-wrap; background: #f6f6f6; padding: .6rem }
.agrees { color: #176b2c } .misses { color: #a11 } .open { color: #8a5a00 } .SKIP { color: #777 }
@media (prefers-color-scheme: dark) {
body { background: #161616; color: #ddd } pre { background: #222 } figure { background: #eee }
tr { border-color: #333 } .agrees { color: #6c8 } .misses { color: #f88 } .open { color: #db6 }
}
"""


def page(
    rows: Sequence[Row], *, latency: str = "", draw: Callable[[Drawing], str] = Drawing.svg
) -> str:
    """The whole page.

    Args:
        rows: verdicts.
        latency: name of the latency page beside it, if there is one.
        draw: gives a plot's SVG.

    """
    text = "Integer networks on every runtime, with rooflines"
    link = f"<p><a href='{latency}'>{text}</a></p>" if latency else ""
    ran = [row for row in rows if row.verdict.outcome != Outcome.SKIP]
    head = "".join(f"<th>{escape(h)}</th>" for h in table.HEADER)
    body = "".join(_row(row) for row in ran)
    figures = "".join(figure(plot, draw) for plot in collection.all_of(ran))
    details = "".join(_details(row) for row in ran)
    skipped = "".join(_details(row) for row in rows if row.verdict.outcome == Outcome.SKIP)
    return document(
        "quantbench report",
        f"<h1>quantbench</h1><p>{escape(table.summary(rows))}</p>{link}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"{shift_tables.section(ran)}<h2>Plots</h2>{figures}"
        f"<h2>How each verdict came about</h2>{details}<h2>Skipped</h2>{skipped}",
    )


def document(title: str, body: str) -> str:
    """A whole page in the style of all."""
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'>"
        f"<title>{title}</title><style>{_STYLE}</style>{body}</html>"
    )


def figure(plot: Drawing, draw: Callable[[Drawing], str]) -> str:
    """A plot and its caption."""
    caption = f"<figcaption>{escape(plot.caption)}</figcaption>"
    return f"<figure>{draw(plot)}{caption}</figure>"


def _row(row: Row) -> str:
    """One line of the table; the last column is coloured by outcome."""
    *plain, verdict = table.cells(row)
    tds = "".join(f"<td>{escape(text)}</td>" for text in plain)
    return f"<tr>{tds}<td class='{_class(row)}'>{escape(verdict)}</td></tr>"


def _details(row: Row) -> str:
    """The claim in full and all parts of its verdict."""
    text = escape(f"{row.claim.describe()}\n\n{row.verdict.explain()}")
    name = escape(row.claim.id)
    title = f"<summary class='{_class(row)}'>{name}: {row.verdict.outcome}</summary>"
    return f"<details>{title}<pre>{text}</pre></details>"


def _class(row: Row) -> str:
    """Colour and word of an outcome."""
    outcome = row.verdict.outcome
    kind = "agrees" if outcome in AGREES else "misses" if outcome in MISSES else "open"
    return outcome if outcome == Outcome.SKIP else f"{kind} {outcome}"
