"""What the page carries along: the library that draws, the style sheet, and a little script."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from importlib.metadata import version
from importlib.resources import files

from quantbench.data.roots import cache_root
from quantbench.errors import CannotWrite
from quantbench.report.charts.spec import VEGA_LITE
from quantbench.system.atomic import write_atomically


def text(name: str) -> str:
    """One of the files beside the templates."""
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")


def vega() -> str:
    """Vega, Vega-Lite and vega-embed as one script that sets ``window.vegaEmbed``.

    Bundling takes two seconds, so the bundle is kept, and a damaged one is made again.
    """
    path = cache_root() / "report" / f"vega-{version('vl-convert-python')}-{VEGA_LITE}.js"
    with suppress(OSError, UnicodeDecodeError):
        digest, _, kept = path.read_text(encoding="utf-8").partition("\n")
        if digest == _digest(kept):
            return kept
    import vl_convert

    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    made = str(bundle).replace("</script", "<\\/script")
    with suppress(CannotWrite):  # a full disk only costs the next report its time
        write_atomically(path, f"{_digest(made)}\n{made}")
    return made


def _digest(script: str) -> str:
    return f"// sha256 {hashlib.sha256(script.encode()).hexdigest()}"
