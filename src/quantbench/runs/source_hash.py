"""Which source code a result depends on: a hash of the method's file and of all quantbench modules that it imports."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path

from quantbench.errors import BadInput

# What these do cannot change a score: messages, readers whose output the data digests in the key
# cover, and the books.
WITHOUT_EFFECT = frozenset(
    f"quantbench.{module}"
    for module in (
        *("errors", "wording", "files", "readers", "decoded", "sets"),
        *(
            "atomic",
            "bootstrap",
            "cells",
            "ledger",
            "machine",
            "registry",
            "results",
            "source_hash",
            "stats",
        ),
    )
)


def source_hashes(modules: Iterable[str]) -> dict[str, str]:
    """Hash of each module's code, for the modules and everything in their packages or quantbench that they import.

    Imports are found without running the modules. Comments, docstrings and layout do not count.

    Args:
        modules: full names, such as ``quantbench.methods.adaround``.

    Raises:
        BadInput: a module has no Python source, such as one typed into an interpreter, or its
            source is no Python.

    """
    asked = set(modules)
    waiting, own = list(asked), {"quantbench", *(m.split(".")[0] for m in asked)}
    found: dict[str, str] = {}
    while waiting:
        module = waiting.pop()
        if module in found or module in WITHOUT_EFFECT:
            continue
        read = _read(module)
        if read is None and module in asked:
            raise BadInput(
                f"{module} has no source file, so results could not tell its versions apart: save it as a .py"
            )
        if read is None:
            continue  # an import that cannot work here, or a folder without code of its own
        found[module], imported = read
        waiting += [m for m in imported if m.split(".")[0] in own]
    return dict(sorted(found.items()))


@functools.cache
def _read(module: str) -> tuple[str, tuple[str, ...]] | None:
    """Hash and imports of one module, as first seen: a file edited during a run is not the code that is running."""
    path = _path(module)
    if path is None:
        return None
    if path.suffix != ".py":  # compiled
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16], ()
    try:
        tree = ast.parse(path.read_bytes(), path)
    except SyntaxError as e:
        raise BadInput(
            f"{path}:{e.lineno}: {e.msg}; results may depend on this file, so it must be valid"
        ) from e
    imported = tuple(sorted(set(_imports(tree, module, is_package=path.name == "__init__.py"))))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        documented = isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        )
        if (
            documented
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            body[0] = ast.Pass()
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:16], imported


def _imports(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[str]:
    """Full names of imported modules, also inside functions; ``from a import b`` may mean module a.b or a name in a."""
    for node in _executed(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = (
                module.split(".")[: len(module.split(".")) - node.level + is_package]
                if node.level
                else []
            )
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{base}.{alias.name}" if _holds(base, alias.name, module) else base


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING``, which no run sees."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if not (
            isinstance(node, ast.If)
            and isinstance(node.test, ast.Name)
            and node.test.id == "TYPE_CHECKING"
        ):
            yield node
            waiting += ast.iter_child_nodes(node)


def _holds(base: str, name: str, importer: str) -> bool:
    """Whether ``base`` is an own package with a module ``name``; only packages are asked, since asking imports them."""
    if base.partition(".")[0] not in ("quantbench", importer.partition(".")[0]):
        return False
    path = _path(base)
    return path is not None and path.name == "__init__.py" and _path(f"{base}.{name}") is not None


@functools.cache
def _path(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ModuleNotFoundError, ValueError):  # its parent is no package, or it is __main__
        return None
    return Path(spec.origin) if spec and spec.origin and spec.has_location else None
