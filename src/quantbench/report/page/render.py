"""Templates with the style sheet, the scripts and what they show."""

from __future__ import annotations

from quantbench.report import table
from quantbench.report.page import assets


def render(template: str, **shown: object) -> str:
    """One of the templates beside this file, as HTML that needs no other file and no network."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("quantbench.report.page")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        style=assets.text("page.css"), script=assets.text("page.js"), vega=assets.vega()
    )
    environment.filters["ours"] = lambda found: table.ours(found.row)
    environment.filters["difference"] = lambda found: table.difference(found.row)
    environment.filters["latency"] = lambda found: table.latency(found.row)
    return environment.get_template(template).render(**shown)
