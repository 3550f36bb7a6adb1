"""No code reads or writes a pickle: whoever opens a file of others runs nothing that is in it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(p for folder in ("src", "methods", "bench") for p in (ROOT / folder).rglob("*.py"))

CALLS = {  # by the last two names of what is called
    *(f"{module}.{name}" for module in ("pickle", "marshal") for name in ("load", "loads")),
    *(f"{module}.{name}" for module in ("pickle", "marshal") for name in ("dump", "dumps")),
    *("pickle.Unpickler", "pickle.Pickler", "torch.save", "pandas.read_pickle", "pd.read_pickle"),
    *("datasets.CIFAR10", "datasets.CIFAR100"),  # torchvision's readers of batches unpickle them
}

ORIGINS = {"pickle", "marshal", "torch", "pandas", "torchvision.datasets"}  # not safetensors.torch

MODULES = {"cPickle", "cloudpickle", "dill", "joblib", "shelve"}

REASONS = {  # what may stay, by file and call
    "src/quantbench/data/readers.py: datasets.CIFAR10": "the published MD5 is checked before",
    "src/quantbench/data/sources/torchvision.py: datasets.CIFAR10": "its address and MD5 alone",
}


def found(code, name):
    """Every place that reads or writes a pickle, or imports what does."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (f"{name}: {n.name}" for n in node.names if n.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            last = {f"{origin.rpartition('.')[2]}.{n.name}" for n in node.names}
            unsafe = last & (CALLS | {"torch.load"}) if origin in ORIGINS else set()
            yield from (f"{name}: {one}" for one in unsafe)
            yield from [f"{name}: {origin}"] if origin in MODULES else []
        elif isinstance(node, ast.Call):
            called = ".".join(ast.unparse(node.func).split(".")[-2:])
            given = {k.arg: ast.unparse(k.value) for k in node.keywords}
            unsafe = called == "torch.load" and given.get("weights_only") != "True"
            if called in CALLS or unsafe or given.get("allow_pickle", "False") != "False":
                yield f"{name}: {called}"


def test_no_pickle_is_read_or_written():
    names = {path: str(path.relative_to(ROOT)) for path in FILES}
    there = [place for path in FILES for place in found(path.read_text("utf-8"), names[path])]
    assert sorted(there) == sorted(REASONS)


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=safe)",
        "torch.save({}, path)",
        "pickle.load(file)",
        "pickle.loads(content)",
        "from pickle import loads",
        "from torch import load",
        "np.load(path, allow_pickle=True)",
        "import dill",
        "from joblib import load",
    ],
)
def test_one_would_be_found(code):
    assert list(found(code, "x.py"))


@pytest.mark.parametrize(
    "code", ["torch.load(path, weights_only=True)", "np.load(path, allow_pickle=False)", "load(x)"]
)
def test_what_runs_nothing_is_let_be(code):
    assert not list(found(code, "x.py"))
