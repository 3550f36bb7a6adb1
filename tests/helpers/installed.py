"""Distributions put into a folder or a fresh environment, and a file that is run as a module."""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib

BUILD = "import sys; from setuptools import build_meta as b; print(b.build_{}(sys.argv[1]))"


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


def wheel(clone, into):
    """Build the wheel of a clone by way of an sdist; nothing is compiled that the clone has."""
    sdist = _built("sdist", clone, into)
    with tarfile.open(sdist) as archive:
        # Python 3.11 has the filter from 3.11.4 on; the archive is our own
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(into, **safe)
    source = into / sdist.name.removesuffix(".tar.gz")
    (clone / "build" / "objects").mkdir(parents=True, exist_ok=True)
    (source / "build").mkdir()
    (source / "build" / "objects").symlink_to(clone / "build" / "objects")
    return _built("wheel", source, into)


def _built(kind, source, into):
    command = [sys.executable, "-c", BUILD.format(kind), str(into)]
    ran = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return into / ran.stdout.splitlines()[-1]


def fresh(folder, *wheels):
    """Make a virtual environment with these wheels; returns the variables of a program in it.

    What is installed here is found there behind them, so that nothing is downloaded. An editable
    install is not: files of the kind that brings it are read in an environment's own folder alone.
    """
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP", "QUANTBENCH"))}
    env |= {"HOME": str(folder), "PATH": f"{folder / 'bin'}{os.pathsep}{os.defpath}"}
    env |= {"OMP_NUM_THREADS": "1", "NO_COLOR": "1", "PIP_CONFIG_FILE": os.devnull}
    # pip takes no for this option as: no isolation, build with what is installed
    env |= {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "no", "PIP_NO_DEPS": "1"}
    pip = [folder / "bin" / "python", "-m", "pip"]
    # up to Python 3.11 an environment begins with one that is too old
    subprocess.run([*pip, "uninstall", "-q", "-y", "setuptools"], env=env, check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    behind = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (site / "behind.pth").write_text("\n".join(sorted(behind)) + "\n")
    subprocess.run([*pip, "install", "-q", *wheels], env=env, check=True)
    return env


def module(path, monkeypatch):
    """Run a file as a module that ``sys.modules`` knows meanwhile: dataclasses look there."""
    name = f"run_{path.stem.replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(name, path)
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, made)
    spec.loader.exec_module(made)
    return made
