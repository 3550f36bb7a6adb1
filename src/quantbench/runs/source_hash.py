"""Which source code a result depends on: a hash of each module that can change it."""

from __future__ import annotations

import ast
import functools
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint
from pathlib import Path
from pkgutil import iter_modules

from quantbench import PUBLIC
from quantbench.errors import BadInput, did_you_mean
from quantbench.quantization.registry import methods
from quantbench.runs.effects import has_effect
from quantbench.runs.mentions import WHOLE, Mentions, mentions
from quantbench.runs.parsed import key, parsed


def source_hashes(modules: Iterable[str]) -> dict[str, str]:
    """Hash of each module's code, for the modules and everything that they lead to.

    That is what they import or name of their own packages and of this library, and the methods that
    they list in ``uses``. Nothing is run or imported to find it. Comments, docstrings and layout do
    not count, and neither does what :mod:`quantbench.runs.effects` says to be without effect.

    Args:
        modules: full names, such as ``quantbench.methods.adaround``.

    Raises:
        BadInput: a module has no Python source, such as one typed into an interpreter; its source
            is no Python; or it uses a method that is not installed.

    """
    return dict(_hashes(frozenset(modules)))


def forget() -> None:
    """Read everything anew, as the next process does."""
    for cached in (_hashes, _read, _parsed, _modules, _spec, method_module, _installed, parsed):
        cached.cache_clear()


@functools.cache
def _hashes(asked: frozenset[str]) -> Mapping[str, str]:
    """See :func:`source_hashes`."""
    waiting, own = list(asked), {"quantbench", *(m.split(".")[0] for m in asked)}
    found: dict[str, str] = {}
    seen: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module in seen or not has_effect(module):
            continue
        seen.add(module)
        read = _read(module)
        if read is None and module in asked:
            raise BadInput(
                f"{module} has no source file, so results could not tell its versions apart: "
                "save it as a .py"
            )
        if read is None:
            continue  # an import that cannot work here, or a folder without code of its own
        digest, refers = read
        if digest != _EMPTY:
            found[module] = digest
        used = [method_module(name) for name in sorted(refers.uses)]
        own |= {m.split(".")[0] for m in used}
        waiting += used
        waiting += [m for n in refers.names if n.split(".")[0] in own for m in _modules(n)]
    parsed().keep()
    return dict(sorted(found.items()))


def code_digest(module: str) -> str:
    """Hash of one module's code, whether or not it has an effect.

    Raises:
        BadInput: it has no source, or one that is no Python.

    """
    read = _read(module)
    if read is None:
        raise BadInput(f"{module} has no source file")
    return read[0]


@functools.cache
def method_module(name: str) -> str:
    """Module of a registered method, which is not imported.

    Raises:
        BadInput: no such method.

    """
    known = _installed()
    if name not in known:
        raise BadInput(f"no method {name!r}{did_you_mean(name, known)}")
    return known[name].module


@functools.cache
def _installed() -> Mapping[str, EntryPoint]:
    """Registered methods by name; finding them reads what every distribution says."""
    return methods()


@functools.cache
def _read(module: str) -> tuple[str, Mentions] | None:
    """Hash of a module and what it refers to, as first seen.

    A file edited during a run is not the code that is running.
    """
    path = _path(module)
    if path is None:
        return None
    if path.suffix != ".py":  # compiled
        return _short(path.read_bytes()), Mentions(frozenset(), frozenset())
    return _parsed(path.read_bytes(), path, module)


@functools.cache
def _parsed(code: bytes, path: Path, module: str) -> tuple[str, Mentions]:
    """Hash of Python code and what it refers to; read once, and kept for the next process."""
    is_package = path.name == "__init__.py"
    name = key(code, module, is_package=is_package)
    if known := parsed().get(name):
        return known
    try:
        tree = ast.parse(code, path)
    except SyntaxError as e:
        raise BadInput(
            f"{path}:{e.lineno}: {e.msg}; results may depend on this file, so it must be valid"
        ) from e
    found = mentions(tree, module, is_package=is_package)
    digest = _code(tree)  # after the mentions: it takes the docstrings out
    parsed().put(name, digest, found)
    return digest, found


def _short(code: bytes) -> str:
    return hashlib.sha256(code).hexdigest()[:16]


_EMPTY = _short(b"")


def _code(tree: ast.Module) -> str:
    """Hash of a module's code without comments, docstrings and layout."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            node.body[0] = ast.Pass()
    bare = all(isinstance(node, ast.Pass) for node in tree.body)
    return _EMPTY if bare else _short(ast.unparse(tree).encode())


def _is_public(part: str) -> bool:
    """Whether a name leads elsewhere; ``network`` is a package as well, and is where it says."""
    return part == WHOLE or (part in PUBLIC and _spec(f"quantbench.{part}") is None)


@functools.cache
def _modules(name: str) -> tuple[str, ...]:
    """Modules that run when a dotted name is imported or looked up: the packages on the way too."""
    module, *rest = name.split(".")
    found = [module]
    for part in rest:
        if module == "quantbench" and _is_public(part):
            targets = PUBLIC.values() if part == WHOLE else (PUBLIC[part],)
            return (*found, *(m for t in targets for m in _modules(t.partition(":")[0])))
        if part == WHOLE:
            return (*found, *_below(module))
        if not _is_package(module) or _spec(f"{module}.{part}") is None:
            break
        module = f"{module}.{part}"
        found.append(module)
    return tuple(found)


def _below(package: str) -> Iterator[str]:
    """All modules in a package, and in the packages in it."""
    spec = _spec(package)
    folders = spec.submodule_search_locations if spec else None
    for found in iter_modules(folders) if folders else ():
        yield f"{package}.{found.name}"
        if found.ispkg:
            yield from _below(f"{package}.{found.name}")


def _is_package(module: str) -> bool:
    spec = _spec(module)
    return spec is not None and spec.submodule_search_locations is not None


def _path(module: str) -> Path | None:
    spec = _spec(module)
    return Path(spec.origin) if spec and spec.origin and spec.has_location else None


@functools.cache
def _spec(module: str) -> ModuleSpec | None:
    """Where a module is; unlike :func:`importlib.util.find_spec`, this imports no package above."""
    if module in sys.modules:
        return getattr(sys.modules[module], "__spec__", None)  # none where it is __main__
    above, _, _ = module.rpartition(".")
    parent = _spec(above) if above else None
    if above and (parent is None or parent.submodule_search_locations is None):
        return None
    path = parent.submodule_search_locations if parent else None
    for finder in sys.meta_path:
        if found := finder.find_spec(module, path):
            return found
    return None
