"""The pages of the documentation, and the code blocks in them."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
EXAMPLES = ROOT / "examples"
PLUGIN = EXAMPLES / "halfway" / "README.md"  # run as it stands by tests/test_installed.py
PAGES = sorted(
    {ROOT / "README.md", *DOCS.glob("*.md"), *EXAMPLES.glob("*/README.md")} - {PLUGIN},
)
MARK = "no-run"


@dataclass(frozen=True)
class Block:
    """One fenced block; ``reason`` says why not to run it, ``None`` without a mark."""

    language: str
    reason: str | None
    text: str

    def commands(self):
        """The quantbench commands in it, as lists of arguments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [shlex.split(line)[1:] for line in lines if line.startswith("quantbench ")]


def name(page):
    """How a test calls a page."""
    return str(page.relative_to(ROOT))


def blocks(page):
    """Every fenced block of a page; ``bash no-run: REASON`` in its head marks what cannot run."""
    found = []
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "fence":
            language, _, rest = token.info.strip().partition(" ")
            marked = rest.strip().startswith(MARK)
            reason = rest.strip().removeprefix(MARK).removeprefix(":").strip() if marked else None
            found.append(Block(language, reason, token.content))
    return found


def links(page):
    """Targets of the links and pictures of a page."""
    tokens = MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8"))
    inline = [child for token in tokens for child in token.children or ()]
    return [t.attrs[key] for t in inline for key in ("href", "src") if key in t.attrs]
