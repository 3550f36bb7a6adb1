"""Text within Markdown that others show, such as the summary of a CI system."""

from __future__ import annotations

import html


def escaped(text: str) -> str:
    """Text that is no HTML: what stands between angle brackets is seen, not taken for a tag."""
    return html.escape(text, quote=False)


def cell(text: str) -> str:
    """Text of one cell of a table."""
    return escaped(text).replace("|", "\\|").replace("\n", "<br>")
