"""A distribution put into a folder without pip, and a file that is run as a module."""

import importlib.util
import os
import shutil
import sys
import tomllib


def install(source, into):
    """Copy the packages of ``source/pyproject.toml``; write what ``importlib.metadata`` reads."""
    about = tomllib.loads((source / "pyproject.toml").read_text())
    name, version = about["project"]["name"], about["project"]["version"]
    for package in about["tool"]["setuptools"]["packages"]:
        shutil.copytree(source / package, into / package)
    info = into / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for group, points in about["project"]["entry-points"].items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def environment(*folders):
    """The environment of a program that finds these folders, on one thread, without a colour."""
    before = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([*map(str, folders), *([before] if before else [])])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}


def module(path, monkeypatch):
    """Run a file as a module that ``sys.modules`` knows meanwhile: dataclasses look there."""
    name = f"run_{path.stem.replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(name, path)
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, made)
    spec.loader.exec_module(made)
    return made
