"""Ways to damage a file, drawn by hypothesis: of its bytes, or of the values in its JSON."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

PLACES = 1 << 20  # more than any seed has bytes: a place is taken modulo the length

Edit = tuple[str, int, bytes]

EDITS: st.SearchStrategy[list[Edit]] = st.lists(
    st.tuples(
        st.sampled_from(("put", "insert", "cut", "end")),
        st.integers(0, PLACES),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=4,
)

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)

CHANGES: st.SearchStrategy[list[tuple[int, Any]]] = st.lists(
    st.tuples(st.integers(0, PLACES), VALUES), min_size=1, max_size=3
)


def edited(content: bytes, edits: list[Edit]) -> bytes:
    """The bytes after some edits."""
    for kind, place, what in edits:
        at = place % (len(content) + 1)
        before, after = content[:at], content[at:]
        content = {
            "put": before + what + after[len(what) :],
            "insert": before + what + after,
            "cut": before + after[len(what) :],
            "end": before,
        }[kind]
    return content


def changed(content: bytes, changes: list[tuple[int, Any]]) -> bytes:
    """JSON with other values at some places."""
    value = json.loads(content)
    for place, new in changes:
        places = list(_places(value))
        if places:
            parent, key = places[place % len(places)]
            parent[key] = new
    return json.dumps(value).encode()


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every value within, by what holds it and its key there."""
    if not isinstance(value, dict | list):
        return []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return [found for key, inner in list(items) for found in ((value, key), *_places(inner))]
