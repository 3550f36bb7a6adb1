"""Who must know an operator, and who may refuse it: what is missing for a new one, by name.

An operator is in ``ir.OPERATORS``, and every executor has one table keyed by its class. Each row
below names such a table and its file. The rest follows: the store reads fields off the class,
``validate`` and ``Program`` ask it for shapes, oneDNN and torch's products run the simulation's
operators, and lowering takes a call whose word is the operator's name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from quantbench.integer import ir
from quantbench.integer.ir import Op

PACKAGE = "quantbench.integer."


@dataclass(frozen=True)
class Place:
    """One table that operators stand in.

    Attributes:
        module: where it is.
        what: what it says of an operator.
        knows: whether it has a class.
        needs: package without which it cannot be looked at; empty if there is none.
        refuses: whether it may lack an operator, for it refuses programs with one by name.

    """

    module: str
    what: str
    knows: Callable[[type[Op]], bool]
    needs: str = ""
    refuses: bool = False


def _in(module: str, table: str) -> Callable[[type[Op]], bool]:
    """Whether a module's table, imported when it is asked for, has a class."""

    def knows(kind: type[Op]) -> bool:
        found: Collection[type[Op]] = getattr(import_module(module), table)
        return kind in found

    return knows


def _place(name: str, table: str, what: str, *, needs: str = "", refuses: bool = False) -> Place:
    module = PACKAGE + name
    return Place(module, what, _in(module, table), needs, refuses)


def _lowered(kind: type[Op]) -> bool:
    """Whether some call of a network becomes the operator."""
    from quantbench.integer.lowering.emit import OTHER_WORDS
    from quantbench.quantization.placement.arguments import WORDS

    return kind in OTHER_WORDS or kind.__name__.lower() in WORDS


PLACES = (
    _place("ir", "OPERATORS", "its class"),
    _place("rules", "RULES", "what makes it sound"),
    _place("oracle", "APPLY", "the slow definition"),
    _place("simulate", "APPLY", "the exact form in torch"),
    _place("testing.builder", "MAKES", "how to draw a random one"),
    _place("backends.native_assembly", "_KERNELS", "its native kernel"),
    Place("quantbench.quantization.placement.arguments", "the calls that become it", _lowered),
    _place("backends.onnx.export", "TRANSLATE", "its form in ONNX", needs="onnx", refuses=True),
    _place(
        "backends.litert.model",
        "TRANSLATE",
        "its form in LiteRT",
        needs="ai_edge_litert",
        refuses=True,
    ),
)


def missing(kind: type[Op]) -> list[str]:
    """What is to be written for an operator: ``module: what it says``, in the order of the guide.

    Places that refuse what they lack are named last, and marked so; those whose package is not
    installed are left out.
    """
    found = []
    for place in PLACES:
        if place.needs and find_spec(place.needs) is None:
            continue
        if not place.knows(kind):
            found.append(f"{place.module}: {place.what}" + " (or it is refused)" * place.refuses)
    if not _defined(kind):
        found.insert(0, "quantbench.integer: its definition")
    return found


def _defined(kind: type[Op]) -> bool:
    """Whether the definition has a line that begins with the operator's name."""
    text = import_module(ir.__package__ or "").__doc__ or ""
    return any(line.split()[:1] == [kind.__name__] for line in text.splitlines())
