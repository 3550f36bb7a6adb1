"""The published claims: those of this project and of every installed package that brings some.

An entry point of the group ``quantbench.reference`` names a package that holds ``*.toml`` files.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from importlib.metadata import entry_points
from importlib.resources import files

from quantbench.claims.claim import Claim
from quantbench.claims.parse import parse
from quantbench.errors import BadInput, did_you_mean

GROUP = "quantbench.reference"


def read_claims(paper: str | None = None) -> tuple[Claim, ...]:
    """All claims, or those of one paper, in the order of the files.

    Raises:
        BadInput: a malformed file (names file and line), an id used twice, an unknown paper, a
            package that cannot be imported.

    """
    claims: dict[str, Claim] = {}
    for name, text in _texts():
        for claim in _parsed(text, name):
            if claim.id in claims:
                raise BadInput(
                    f"{claim.where}: {claim.id} is already the id of {claims[claim.id].where}: "
                    "rename the row"
                )
            claims[claim.id] = claim
    if not claims:
        raise BadInput(
            f"no claims are installed (entry points of {GROUP}); "
            "install the project: pip install -e ."
        )
    papers = {c.paper for c in claims.values()}
    if paper is not None and paper not in papers:
        raise BadInput(f"no claims of a paper {paper!r}{did_you_mean(paper, papers)}")
    return tuple(c for c in claims.values() if paper in (None, c.paper))


def find(claims: Iterable[Claim], name: str) -> Claim:
    """The claim with an id, or with an id that ends in ``/<name>``.

    Raises:
        BadInput: there is none, or there are several.

    """
    known = {c.id: c for c in claims}
    found = [name] if name in known else [key for key in known if key.endswith(f"/{name}")]
    if not found:
        raise BadInput(f"no claim {name!r}{did_you_mean(name, known)}")
    if len(found) > 1:
        raise BadInput(f"{name!r} is the end of {len(found)} ids: {', '.join(found)}")
    return known[found[0]]


@functools.cache
def _parsed(text: str, name: str) -> tuple[Claim, ...]:
    """A run reads its claims more than once."""
    return tuple(parse(text, name))


def _texts() -> list[tuple[str, str]]:
    """Name and content of every claim file, by package and file name."""
    found = []
    for point in sorted(entry_points(group=GROUP), key=lambda p: (p.name != "quantbench", p.name)):
        try:
            folder = files(point.value)
        except (Exception, SystemExit) as e:
            raise BadInput(
                f"claims of the entry point {point.name!r}: {point.value} cannot be imported: "
                f"{type(e).__name__}: {e}; mend or uninstall the package"
            ) from e
        for file in sorted(folder.iterdir(), key=lambda f: f.name):
            if file.name.endswith(".toml"):
                try:
                    found.append((str(file), file.read_text(encoding="utf-8")))
                except (OSError, UnicodeDecodeError) as e:
                    raise BadInput(f"{file}: cannot be read as UTF-8 text: {e}") from e
    return found
