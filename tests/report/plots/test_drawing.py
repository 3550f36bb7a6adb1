"""Drawings are kept by what they show: nothing is drawn twice, nothing stale is shown."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from quantbench.report.plots import collection, drawing
from quantbench.report.plots.drawing import Drawing, Drawings

CURVES = {"conv": (0.5, 0.25, 0.125), "fc": (0.1, 0.05, 0.01)}

WRITE = """
import sys
from pathlib import Path
from quantbench.report.plots.drawing import Drawings
from quantbench.report.page import page
from tests.helpers.rows import row
drawings = Drawings(Path(sys.argv[1]))
text = page([row(), row()], draw=drawings.svg)
print(text.count("<svg"), sorted({"matplotlib", "torch", "scipy"}.intersection(sys.modules)))
print(text)
"""


def drawn(*values):
    """Stands for a drawing that takes long."""
    drawn.asked.append(values)
    return f"<svg>{values}</svg>"


@pytest.fixture
def kept(tmp_path):
    drawn.asked = []
    return Drawings(tmp_path / "plots")


def files(drawings):
    return {path.stem for path in drawings.folder.glob("*.svg")}


def test_what_was_drawn_once_is_not_drawn_again(kept):
    first = kept.svg(Drawing("a", drawn, (1.0, "x")))
    assert kept.svg(Drawing("another caption", drawn, (1.0, "x"))) == first
    assert Drawings(kept.folder).svg(Drawing("a", drawn, (1.0, "x"))) == first
    assert drawn.asked == [(1.0, "x")]


def test_changed_data_is_drawn_again_and_the_old_drawing_goes(kept):
    kept.svg(Drawing("a", drawn, (0.1,)))
    again = Drawings(kept.folder)
    assert again.svg(Drawing("a", drawn, (0.1 + 1e-17 * 10,))) != kept.svg(
        Drawing("a", drawn, (0.1,))
    )
    assert len(files(again)) == 2
    again.prune()
    assert files(again) == again.used


@pytest.mark.parametrize("damage", [b"", b"<svg", b"\xff\xfe", b"<svg></svg><!-- sha256 0 -->\n"])
def test_a_damaged_drawing_is_drawn_again(kept, damage):
    plot = Drawing("a", drawn, (1,))
    first = kept.svg(plot)
    (path,) = kept.folder.glob("*.svg")
    for content in (damage, path.read_bytes().replace(b"(1,)", b"(2,)")):
        path.write_bytes(content)
        assert Drawings(kept.folder).svg(plot) == first
        assert Drawings(kept.folder).svg(plot) == first
    assert len(drawn.asked) == 3  # once each time


def test_the_key_follows_the_code_that_draws_and_matplotlib(monkeypatch):
    plot = Drawing("a", collection.draw_curves, (CURVES,))
    before = plot.digest
    monkeypatch.setattr(drawing, "version", lambda _: "0.0")
    with_another = plot.digest
    monkeypatch.undo()
    monkeypatch.setattr(collection, "__file__", __file__)
    assert len({before, with_another, plot.digest}) == 3


@dataclass(frozen=True)
class Point:
    x: float


def test_the_key_tells_apart_what_would_be_drawn_differently():
    shown = [
        (CURVES,),
        (dict(reversed(CURVES.items())),),
        (Point(1.0),),
        (Point(1.0000000000000002),),
    ]
    assert len({Drawing("a", drawn, data).digest for data in shown}) == len(shown)


def test_a_second_report_imports_no_matplotlib_and_is_the_same(tmp_path):
    command, root = [sys.executable, "-c", WRITE, str(tmp_path)], Path(__file__).parents[3]
    first, again = (subprocess.check_output(command, text=True, cwd=root) for _ in range(2))
    about, _, page = first.partition("\n")
    about_again, _, page_again = again.partition("\n")
    assert (about, about_again) == ("1 ['matplotlib']", "1 []")
    assert page == page_again
