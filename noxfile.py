# /// script
# dependencies = ["nox>=2025.5", "uv"]
# ///
"""Everything that a user or CI runs; each session installs what it needs."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests"]

CONSTRAINTS = ("-c", "constraints.txt")

ARM = "aarch64-linux-gnu-g++"
EMULATOR = "qemu-aarch64"
# what setup.py builds the kernels with, as far as bits depend on it
ARM_FLAGS = ("-std=c++20", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
# processors that the emulator is asked for, and the instruction sets that they must have
ARM_PROCESSORS = {
    "max": ("arm64_i8mm", "arm64_dot"),
    "neoverse-n1": ("arm64_dot",),
    "cortex-a53": (),
}

CELL = 4 * 2**30  # bytes of a cell of an ImageNet network with 1,024 images

EXAMPLE = '<p class="about">An example: the accepted results of the embedded tier</p>'

INTERRUPTS = "tests/cli/test_interrupt.py"

PASSES = (0, 3)  # of quantbench run and quantbench gate: clean; nothing but undecided claims

TESTED_WITH = (
    "axe-playwright-python",  # what is wrong with a page, in the Chromium of the machine
    "hypothesis",
    "import-linter",
    "markdown-it-py",
    "nncf",
    "onnx",
    "onnx2torch",
    "onnxruntime",
    "playwright",
    "pybind11",  # this and setuptools: a test builds the wheel
    "pycocotools",
    "pytest-xdist",
    "ray",  # a cluster of two nodes
    "setuptools",
    "timm",
)


def _install(session: nox.Session, *more: str) -> None:
    """The project, editable, under pinned versions; again when what it is built from changes.

    Sources of the kernels are compiled once for all sessions: setup.py keeps the objects.
    """
    session.env["PYTHONHASHSEED"] = "0"
    native = Path("src/quantbench/csrc")
    sources = [Path(n) for n in ("pyproject.toml", "setup.py", "constraints.txt", "noxfile.py")]
    sources += sorted(p for p in native.rglob("*") if p.suffix in {".cpp", ".h"})
    digest = hashlib.sha256(
        b"".join(p.read_bytes() for p in sources) + repr(more).encode()
    ).hexdigest()
    stamp = Path(session.virtualenv.location) / "quantbench-installed"
    if stamp.exists() and stamp.read_text(encoding="ascii") == digest:
        return
    stamp.unlink(missing_ok=True)
    session.install(*CONSTRAINTS, "-e", ".", *more)
    stamp.write_text(digest, encoding="ascii")


def _workers() -> tuple[str, str]:
    """Cells that run at once: one a processor, as far as each has the memory of a large one."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return "--workers", str(max(1, min(os.cpu_count() or 1, memory // CELL)))


def _cpp(*folders: str) -> list[str]:
    """C++ files below these folders."""
    files = sorted(f for folder in folders for f in Path(folder).rglob("*"))
    return [str(f) for f in files if f.suffix in {".cpp", ".h"}]


@nox.session
def reproduce(session: nox.Session) -> None:
    """Reproduce published numbers with the data at hand: nox -s reproduce -- [PAPER] [-k EXPR]."""
    _install(session, "pycocotools")
    session.run("quantbench", "data", "pull")
    session.run("quantbench", "run", *_workers(), *session.posargs, success_codes=PASSES)


@nox.session
def tests(session: nox.Session) -> None:
    """The suite's own tests."""
    _install(session, *TESTED_WITH)
    session.run("quantbench", "data", "pull")
    session.run("pytest", "-n", "auto", "--dist", "worksteal", *session.posargs)


@nox.session
def interrupts(session: nox.Session) -> None:
    """That every command ends within two seconds of an interrupt; on a quiet machine."""
    _install(session, *TESTED_WITH)
    session.run("quantbench", "data", "pull", "embedded")
    session.run("pytest", INTERRUPTS, *session.posargs)


@nox.session
def families(session: nox.Session) -> None:
    """Look at a network of every family of torchvision and timm, and write docs/families.md.

    An hour on one quiet core; finished rows are kept.
    """
    _install(session, "timm", "onnx", "onnxruntime")
    rows = session.posargs or [".nox/families.jsonl"]
    session.run("python", "-m", "tests.families", *rows)


@nox.session
def reliability(session: nox.Session) -> None:
    """Kills, bad inputs, fuzzing, full disks, nightly gates: then write docs/reliability.md.

    An hour on a quiet machine, of which 200 kills take half; finished parts are kept.
    """
    _install(session, *TESTED_WITH, "openvino", "ai-edge-litert", "atheris")
    session.run("quantbench", "data", "pull")
    session.run("python", "-m", "tests.reliability", *session.posargs)


@nox.session
def gate(session: nox.Session) -> None:
    """Run the selected claims and compare with the accepted baseline; fails if either does."""
    _install(session, "pycocotools")
    session.run("quantbench", "data", "pull")
    failed = [command for command in ("run", "gate") if not _passes(session, command)]
    if failed:
        session.error(f"quantbench {' and quantbench '.join(failed)} failed: see above")


def _passes(session: nox.Session, command: str) -> bool:
    """Whether a command of quantbench ends well; what comes after it is done either way."""
    more = _workers() if command == "run" else ()
    try:
        session.run("quantbench", command, *more, *session.posargs, success_codes=PASSES)
    except CommandFailed:
        return False
    return True


@nox.session
def latency(session: nox.Session) -> None:
    """Time integer networks on every runtime: nox -s latency -- [-k EXPR] [--threads N]."""
    _install(session, "onnx", "onnxruntime", "openvino", "ai-edge-litert")
    session.run("quantbench", "latency", *session.posargs)


@nox.session(venv_backend="none")
def arm64(session: nox.Session) -> None:
    """Random layers on the kernels of 64-bit Arm, under an emulator: nox -s arm64 [-- LAYERS]."""
    if missing := [tool for tool in (ARM, EMULATOR) if shutil.which(tool) is None]:
        session.error(
            f"{' and '.join(missing)} not found; on Debian and Ubuntu:"
            " apt-get install g++-aarch64-linux-gnu qemu-user"
        )
    native, folder = Path("src/quantbench/csrc"), Path(session.create_tmp())
    apart = {"bindings", "float"}  # Python's, and kernels that are not the integer ones
    sources = [f for f in native.rglob("*.cpp") if f.relative_to(native).parts[0] not in apart]
    sources.append(Path("tests/helpers/random_layers.cpp"))

    def built(source: Path) -> str:
        to = str(folder / (".".join(source.parts) + ".o"))
        command = [ARM, *ARM_FLAGS, f"-I{native}", "-c", str(source), "-o", to]
        subprocess.run(command, check=True)
        return to

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(built, sources))
    program = str(folder / "random_layers")
    command = [ARM, "-static", *objects, "-pthread", "-o", program]
    session.run(*command, external=True, log=False)
    layers = session.posargs[0] if session.posargs else "400"
    for processor, sets in ARM_PROCESSORS.items():
        session.run(EMULATOR, "-cpu", processor, program, layers, *sets, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff, for style and for mistakes; the layers, on the package as it is installed."""
    session.install(*CONSTRAINTS, "ruff", "import-linter")
    session.install("--force-reinstall", "--no-deps", ".")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")
    session.install(*CONSTRAINTS, "clang-format")
    session.run("clang-format", "--dry-run", "-Werror", *_cpp("src/quantbench/csrc", "tests"))


@nox.session
def types(session: nox.Session) -> None:
    """Strict mypy over the installed package: an editable one hides the mapped folders."""
    session.install(*CONSTRAINTS, ".", "mypy")
    # the sources may have changed since the last time
    session.install("--force-reinstall", "--no-deps", ".")
    session.run("mypy", "-p", "quantbench")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into site/, offline; a warning is an error.

    With it goes an example of the report: the accepted results of the embedded tier.
    """
    _install(session, "sphinx", "furo", "myst-parser", "sphinx-autoapi")
    session.run("quantbench", "data", "pull", "embedded")
    runs = session.create_tmp()
    asked = ("--tier", "embedded", "--runs", runs)
    session.run("quantbench", "report", *asked, success_codes=(*PASSES, 1))  # a miss is shown too
    page = (Path(runs) / "report" / "index.html").read_text(encoding="utf-8")
    # without day, commit and machine: what is committed changes with the results alone
    page = re.sub(r'<p class="about">Report of .*?</p>', EXAMPLE, page, count=1)
    # the first script is the library that draws, a megabyte of others' code: not for git
    before, library, after = re.split(r"<script>(.*?)</script>", page, maxsplit=1, flags=re.DOTALL)
    example, script = Path("docs/example/example-report.html"), "example-vega.js"
    link = f'<script src="{script}"></script>'
    example.write_text(f"{before}{link}{after}", encoding="utf-8")
    example.with_name(script).write_text(library, encoding="utf-8")
    session.run("sphinx-build", "-W", "--keep-going", "docs", "site", *session.posargs)


@nox.session
def data(session: nox.Session) -> None:
    """Bring every reachable piece of data here, and name the rest: nox -s data [-- fetch NAME]."""
    _install(session)
    session.run("quantbench", "data", *(session.posargs or ["pull"]))


@nox.session
def report(session: nox.Session) -> None:
    """Write the report of finished runs again."""
    _install(session)
    session.run("quantbench", "report", *session.posargs)
