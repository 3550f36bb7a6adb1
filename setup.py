"""The native kernels: optional, so that a machine without a compiler installs everything else."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pybind11
from pybind11.setup_helpers import Pybind11Extension, build_ext
from setuptools import find_packages, setup

FOLDER = Path("src/quantbench/csrc")
OBJECTS = Path("build/objects")  # compiled sources, by what they were compiled from
MONTH = 30 * 86400.0
# Bit-identical results need every product rounded on its own; the rest lets loops with floats
# become vectors, and silences gcc's false alarms inside its own intrinsics. Instruction sets need
# no flags: their sources say themselves what they are compiled for (base/target.h).
FLAGS = (
    "-O3 -ffp-contract=off -fno-math-errno -fno-trapping-math"
    " -Wno-uninitialized -Wno-maybe-uninitialized"
).split()


class Build(build_ext):
    """Compiles sources side by side, each only once for all environments of a clone.

    An object is kept by a digest of all that it depends on, so that a second environment, or an
    isolated build of a wheel, only links.
    """

    def finalize_options(self) -> None:
        """Always build: which objects are out of date is for their digests to say."""
        super().finalize_options()
        self.force = True

    def build_extension(self, ext: Pybind11Extension) -> None:
        """Say what is lost when the kernels cannot be compiled; setuptools then goes on."""
        self._compile, self.compiler.compile = self.compiler.compile, self._objects
        try:
            super().build_extension(ext)
        except Exception:
            self.warn(
                "no native kernels: they need a C++20 compiler."
                " The other integer backends work without."
            )
            raise
        finally:
            self.compiler.compile = self._compile

    def _objects(self, sources: list[str], depends: list[str], **options: Any) -> list[str]:
        """In the place of the compiler's own method: object files of these sources, in order."""
        options.pop("output_dir", None)
        flags = [options[n] for n in ("macros", "debug", "extra_postargs")] + self._toolchain()
        headers = b"".join(Path(h).read_bytes() for h in depends)
        shared = hashlib.sha256(repr(flags).encode() + headers)

        def compiled(source: str) -> str:
            digest = shared.copy()
            digest.update(source.encode() + Path(source).read_bytes())
            kept = (
                OBJECTS
                / f"{Path(source).stem}-{digest.hexdigest()[:32]}{self.compiler.obj_extension}"
            )
            if kept.exists():
                kept.touch()
            else:
                with tempfile.TemporaryDirectory(dir=OBJECTS) as folder:
                    (made,) = self._compile([source], output_dir=folder, **options)
                    os.replace(made, kept)
            return str(kept)

        OBJECTS.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compiled, sources))
        self._forget()
        return objects

    def _toolchain(self) -> list[str]:
        """What compiles: the command, its version, and the headers of Python and pybind11."""
        command = getattr(self.compiler, "compiler_so_cxx", ["cl"])
        found, version = shutil.which(command[0]), ""
        if found and sys.platform != "win32":
            asked = subprocess.run(
                [found, "--version"], capture_output=True, text=True, check=False
            )
            version = asked.stdout
        return [*command, version, sys.version, pybind11.__version__]

    @staticmethod
    def _forget() -> None:
        """Objects that nothing has used for a month go."""
        for old in OBJECTS.iterdir():
            if old.stat().st_mtime < time.time() - MONTH:
                old.unlink(missing_ok=True)


kernels = Pybind11Extension(
    "quantbench._native",
    sorted(str(f) for f in FOLDER.rglob("*.cpp")),
    depends=sorted(str(f) for f in FOLDER.rglob("*.h")),
    include_dirs=[str(FOLDER)],
    cxx_std=20,
    extra_compile_args=["/O2", "/fp:precise"] if sys.platform == "win32" else FLAGS,
    optional=True,
)

FOLDERS = [
    "quantbench.methods",
    "quantbench.reference",
    "quantbench.bench",
]  # mapped in pyproject.toml

setup(
    packages=[*find_packages("src"), *FOLDERS], ext_modules=[kernels], cmdclass={"build_ext": Build}
)
