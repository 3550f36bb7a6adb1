"""What a module's code refers to, found without running it, however its imports are written."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

WHOLE = "*"  # in place of a name: everything that a package holds

_DOTTED = re.compile(
    r"[A-Za-z_]\w*(\.\w+)+(:\w+)?"
)  # of a module, in a text, as entry points have it


@dataclass(frozen=True)
class Mentions:
    """What stands in a module.

    Attributes:
        names: dotted names of modules, or of something in them; ``a.b.*`` where ``a.b`` is handed
            on as a whole.
        uses: methods by their registered names, as classes list them in ``uses``.

    """

    names: frozenset[str]
    uses: frozenset[str]


def mentions(tree: ast.AST, module: str, *, is_package: bool) -> Mentions:
    """Everything that the code of a module refers to, also inside functions.

    ``from a import b``, ``import a.b``, ``import a.b as b``, ``import a`` with ``a.b`` further down
    and ``import_module("a.b")`` all lead to ``a.b``. What stands under ``if TYPE_CHECKING``, which
    no run sees, does not count.

    Args:
        tree: the parsed module.
        module: its full name, from which relative imports count.
        is_package: whether it is the package itself.

    """
    found = _Finder(module.split(".")[: None if is_package else -1])
    nodes = list(_executed(tree))
    for node in nodes:
        found.imports(node)
    inner = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        if isinstance(node, ast.Attribute | ast.Name) and id(node) not in inner:
            found.mention(node)
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and _DOTTED.fullmatch(text):
            found.names.add(text.replace(":", "."))
    uses = (name for node in nodes if isinstance(node, ast.ClassDef) for name in _uses(node))
    return Mentions(frozenset(found.names), frozenset(uses))


@dataclass
class _Finder:
    """Collects names; ``bound`` says what names of the module itself stand for."""

    package: list[str]
    names: set[str] = field(default_factory=set)
    bound: dict[str, set[str]] = field(default_factory=dict)

    def imports(self, node: ast.AST) -> None:
        """Take in an import."""
        if isinstance(node, ast.Import):
            for alias in node.names:
                # ``import a.b`` binds a, ``import a.b as c`` binds a.b
                whole = alias.name if alias.asname else alias.name.partition(".")[0]
                self._bind(alias.asname or whole, whole)
                self.names.add(alias.name)
        elif isinstance(node, ast.ImportFrom):
            above = self.package[: len(self.package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                self._bind(alias.asname or alias.name, f"{base}.{alias.name}")
                self.names.add(f"{base}.{alias.name}")

    def _bind(self, name: str, target: str) -> None:
        self.bound.setdefault(name, set()).add(target)

    def mention(self, node: ast.Attribute | ast.Name) -> None:
        """Take in ``a.b.c`` or ``a``, if ``a`` was imported; ``a`` alone may be anything in it."""
        attributes: list[str] = []
        base: ast.expr = node
        while isinstance(base, ast.Attribute):
            attributes.insert(0, base.attr)
            base = base.value
        if isinstance(base, ast.Name):
            for target in self.bound.get(base.id, ()):
                self.names.add(".".join([target, *(attributes or [WHOLE])]))


def _uses(node: ast.ClassDef) -> tuple[str, ...]:
    """The names that a class lists as ``uses``."""
    for line in node.body:
        if isinstance(line, ast.Assign):
            targets: list[ast.expr] = line.targets
        elif isinstance(line, ast.AnnAssign) and line.value:
            targets = [line.target]
        else:
            continue
        if any(isinstance(t, ast.Name) and t.id == "uses" for t in targets):
            assert line.value is not None
            return _texts(line.value)
    return ()


def _texts(value: ast.expr) -> tuple[str, ...]:
    """The texts in an expression; ``Base.uses`` in it is read where ``Base`` is defined."""
    parts = (n.value for n in ast.walk(value) if isinstance(n, ast.Constant))
    return tuple(part for part in parts if isinstance(part, str))


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING``."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and _typing_only(node.test):
            waiting += node.orelse
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


def _typing_only(test: ast.expr) -> bool:
    """Whether a condition is ``TYPE_CHECKING`` or ``typing.TYPE_CHECKING``."""
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"
