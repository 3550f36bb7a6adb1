"""How executors find what they do with an operator: one table each, keyed by the operator's class.

Classes are looked up as they are, not as their bases: an operator that derives from another is
another operator, and an executor that does not know it must say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from quantbench.errors import Unsupported
from quantbench.integer.ir import Op

T = TypeVar("T")


def entry(table: Mapping[type[Op], T], op: Op, executor: str) -> T:
    """What an executor's table has for an operator.

    Raises:
        Unsupported: naming the executor and the operator.

    """
    found = table.get(type(op))
    if found is None:
        raise Unsupported(f"{op.name}: {executor} has no {type(op).__name__}")
    return found
