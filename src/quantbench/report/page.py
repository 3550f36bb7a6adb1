"""One self-contained HTML page: verdicts, plots, and how each verdict came about."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from quantbench.evidence.verdict import Outcome
from quantbench.report import plots, shift_tables, table

if TYPE_CHECKING:
    from quantbench.report.rows import Row


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem; color: #1c1c1c }
table { border-collapse: collapse; width: 100%; font-size: 13px } td, th { padding: .3rem .6rem; text-align: left }
tr { border-bottom: 1px solid #ddd } th { border-bottom: 2px solid #888 }
figure { margin: 1rem 0 } svg { max-width: 100% }
.REPRODUCED { color: #176b2c } .BELOW, .WRONG-BASE, .XPASS { color: #a11 } .ABOVE, .TIE, .XFAIL { color: #8a5a00 }
pre { white-space: pre-wrap; background: #f6f6f6; padding: .6rem } .SKIP { color: #777 }
@media (prefers-color-scheme: dark) { body { background: #161616; color: #ddd } pre { background: #222 }
tr { border-color: #333 } figure { background: #eee } .REPRODUCED { color: #6c8 } .BELOW { color: #f88 } }
"""


def page(rows: Sequence[Row], *, latency: str = "") -> str:
    """The whole page; ``latency`` is the name of the latency page beside it, if there is one."""
    link = (
        f"<p><a href='{latency}'>Integer networks on every runtime, with rooflines</a></p>"
        if latency
        else ""
    )
    ran = [row for row in rows if row.verdict.outcome != Outcome.SKIP]
    head = "".join(f"<th>{escape(h)}</th>" for h in table.HEADER)
    body = "".join(_row(row) for row in ran)
    figures = "".join(
        f"<figure>{svg}<figcaption>{escape(text)}</figcaption></figure>"
        for text, svg in plots.all_of(ran)
    )
    details = "".join(_details(row) for row in ran)
    skipped = "".join(_details(row) for row in rows if row.verdict.outcome == Outcome.SKIP)
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>quantbench report</title><style>{STYLE}</style><h1>quantbench</h1>"
        f"<p>{escape(table.summary(rows))}</p>{link}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{shift_tables.section(ran)}<h2>Plots</h2>{figures}"
        f"<h2>How each verdict came about</h2>{details}<h2>Skipped</h2>{skipped}</html>"
    )


def _row(row: Row) -> str:
    """One line of the table; the last column is coloured by outcome."""
    *plain, verdict = table.cells(row)
    tds = "".join(f"<td>{escape(text)}</td>" for text in plain)
    return f"<tr>{tds}<td class='{row.verdict.outcome}'>{escape(verdict)}</td></tr>"


def _details(row: Row) -> str:
    """The claim in full and all parts of its verdict."""
    text = escape(f"{row.claim.describe()}\n\n{row.verdict.explain()}")
    name = escape(row.claim.id)
    title = f"<summary class='{row.verdict.outcome}'>{name}: {row.verdict.outcome}</summary>"
    return f"<details>{title}<pre>{text}</pre></details>"
