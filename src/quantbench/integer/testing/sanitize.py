"""Sanitizers over the native kernels.

``python -m quantbench.integer.testing.sanitize [--kind thread]`` builds the extension once more,
instrumented, into a temporary folder, and lets it run random programs on every instruction set of
this machine against the oracle, and random float convolutions: for addresses and undefined
behaviour, or for races. In this build every tensor has memory of its own, without a byte to spare,
and what instrumentation cannot see (inline assembly, masked stores) is replaced by plain C++.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from quantbench.errors import BadInput, QuantbenchError, Unsupported
from quantbench.integer import oracle
from quantbench.integer.backends.native import Native, instruction_sets
from quantbench.integer.testing import fuzz

SOURCES = Path(__file__).parents[2] / "csrc"

FLAGS = ("-std=c++20", "-O1", "-g1", "-fPIC", "-ffp-contract=off", "-fvisibility=hidden", "-w")

KINDS = {  # flags, and the library that must be loaded first
    "address": (
        ("-fsanitize=address,undefined", "-fno-sanitize=vptr", "-fno-sanitize-recover=all"),
        "libasan.so",
    ),
    "thread": (("-fsanitize=thread",), "libtsan.so"),
}


def compiled(folder: Path, compiler: str, kind: str) -> Path:
    """Compile the extension, instrumented as ``KINDS`` says, into ``folder``.

    Raises:
        Unsupported: no such compiler, or it has no sanitizers; with what it said.

    """
    import pybind11

    target = folder / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
    include = [SOURCES, pybind11.get_include(), sysconfig.get_paths()["include"]]
    command = [compiler, *FLAGS, *KINDS[kind][0]]

    def build(source: Path) -> str:
        built = folder / (".".join(source.relative_to(SOURCES).parts) + ".o")
        _compile([*command, *(f"-I{i}" for i in include), "-c", str(source), "-o", str(built)])
        return str(built)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(build, sorted(SOURCES.rglob("*.cpp"))))
    _compile([*command, "-shared", *objects, "-o", str(target)])
    return target


def _compile(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as e:
        raise Unsupported(f"no sanitized build: {e}") from e
    if done.returncode:
        raise Unsupported(f"no sanitized build: {done.stderr[-2000:]}")


def child(extension: Path, programs: int) -> None:
    """Run inside the instrumented process: programs 0.. on every instruction set."""
    spec = importlib.util.spec_from_file_location("quantbench._native", extension)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules["quantbench._native"] = module
    sets = instruction_sets()
    for seed in range(programs):
        draw = fuzz.seeded(seed)
        program = fuzz.any_program(draw, size=(12, 40)[seed % 2])
        images = fuzz.codes(draw, program, 3)
        expected = oracle.run(program, images)
        for isa in sets:
            kernels = Native(isa, winograd=seed % 3 > 0, worth=0)
            compiled = kernels.compile(program, threads=1 + seed % 3, images=2)
            got = {**compiled.codes(images), program.output: compiled(images)}
            for name, codes in got.items():
                if not np.array_equal(codes, expected[name].reshape(codes.shape)):
                    raise BadInput(f"program {seed} on {isa}: {name} differs from the oracle")
    print(f"{programs} programs on {', '.join(sets)}: no error, every code equal to the oracle's")
    for isa in module.float_instruction_sets():
        for seed in range(programs):
            float_layer(module, seed, isa)
        print(f"{programs} float convolutions on {isa}: no error, all close to float64")


def float_layer(module: ModuleType, seed: int, isa: str) -> None:
    """One float convolution and its derivatives, against sums in float64.

    Arrays have no number to spare, so that a sanitizer sees any access beyond.
    """
    rng = np.random.default_rng(seed)
    n, h, w = (int(rng.integers(*between)) for between in ((1, 4), (1, 8), (1, 20)))
    c, k = (int(rng.choice([16, 32, 48])) for _ in range(2))
    shapes = (n, h, w, c), (3, 3, c, k), (n, h, w, k), (k,), (n, h, w, k)
    x, f, dy, bias, add = (rng.standard_normal(s, np.float32) for s in shapes)
    some: list[Any] = [
        a if rng.integers(2) else None for a in (bias, add, np.empty_like(x), np.empty_like(f))
    ]
    relu, threads, y = bool(rng.integers(2)), 1 + seed % 3, np.empty_like(dy)
    module.float_conv(x, f, *some[:2], relu, y, threads, isa)
    turned = None if some[2] is None else np.ascontiguousarray(f[::-1, ::-1].transpose(0, 1, 3, 2))
    module.float_conv_back(x, turned, dy, y if relu else None, *some[2:], threads, isa)
    wide = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    back = np.zeros_like(wide)
    sums = sum((a for a in some[:2] if a is not None), np.zeros_like(y, np.float64))
    g, gradient = dy * (y > 0.0) if relu else dy, np.empty_like(f, np.float64)
    for i, j in np.ndindex(3, 3):
        part = np.s_[:, i : i + h, j : j + w]
        sums += wide[part] @ f[i, j]
        gradient[i, j] = np.einsum("nhwc,nhwk->ck", wide[part], g)
        back[part] += g @ f[i, j].T.astype(np.float64)
    pairs = (y, sums.clip(0) if relu else sums), (some[2], back[:, 1:-1, 1:-1]), (some[3], gradient)
    if not all(got is None or np.allclose(got, true, rtol=1e-3, atol=1e-3) for got, true in pairs):
        raise BadInput(f"float convolution {seed} differs from sums in float64")


def main(argv: list[str] | None = None) -> int:
    """Build, run, and say what was found; the exit status is 0 if that is nothing."""
    parser = argparse.ArgumentParser(
        description="Run the native kernels under a sanitizer:"
        " of addresses and undefined behaviour, or of races."
    )
    parser.add_argument("--programs", type=int, default=400, help="random programs to run")
    parser.add_argument("--kind", choices=tuple(KINDS), default="address")
    parser.add_argument("--compiler", default=os.environ.get("CXX", "g++"))
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    try:
        if options.child:
            child(options.child, options.programs)
            return 0
        with tempfile.TemporaryDirectory() as folder:
            extension = compiled(Path(folder), options.compiler, options.kind)
            return _run(extension, options.programs, options.compiler, KINDS[options.kind][1])
    except QuantbenchError as e:
        print(e, file=sys.stderr)
        return 2


def _run(extension: Path, programs: int, compiler: str, library: str) -> int:
    """The sanitizer's library must be loaded before Python, which was built without it."""
    found = subprocess.run(
        [compiler, f"-print-file-name={library}"], capture_output=True, text=True, check=True
    )
    environment = {
        **os.environ,
        "LD_PRELOAD": found.stdout.strip(),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python itself leaks at exit
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "TSAN_OPTIONS": "halt_on_error=1",
    }
    command = [sys.executable, "-m", __spec__.name]
    command += ["--child", str(extension), "--programs", str(programs)]
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
