"""The native kernels: optional, so that a machine without a compiler installs everything else."""

import hashlib
import json
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
from setuptools.command.build import build
from setuptools.command.build_py import build_py
from setuptools.errors import FileError

FOLDER = Path("src/quantbench/csrc")
OBJECTS = Path("build/objects")  # compiled sources, by what they were compiled from
MONTH = 30 * 86400.0
STORE = Path(".dvc/embedded/files/md5")  # the embedded data, as DVC keeps it
EXAMPLE = Path("examples/halfway")  # what `quantbench new` writes, under another name
# Bit-identical results need every product rounded on its own; the rest lets loops with floats
# become vectors, and silences gcc's false alarms inside its own intrinsics. Instruction sets need
# no flags: their sources say themselves what they are compiled for (base/target.h).
FLAGS = [
    "-O3",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wno-uninitialized",
    "-Wno-maybe-uninitialized",
]


class Fresh(build):
    """Starts from an empty folder: a wheel must not hold modules that have moved away since."""

    def run(self) -> None:
        """Build."""
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


class Carry(build_py):
    """Puts into a wheel what an editable install finds in the clone: the data and the example."""

    def run(self) -> None:
        """Copy both beside the modules that read them."""
        super().run()
        if self.editable_mode:
            return
        package = Path(self.build_lib) / "quantbench"
        junk = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "runs")
        shutil.copytree(EXAMPLE, package / "cli" / "template", ignore=junk)
        listings = list(STORE.glob("*/*.dir"))  # DVC's: the store holds one folder, the tier
        if len(listings) != 1:
            raise FileError(f"{STORE} lacks the embedded data: build from a whole clone or sdist")
        for row in json.loads(listings[0].read_bytes()):
            target = package / "data" / "embedded" / row["relpath"]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(STORE / row["md5"][:2] / row["md5"][2:], target)


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

        def place(source: str) -> Path:
            files = [(f, Path(f).read_bytes()) for f in (source, *depends)]
            digest = hashlib.sha256(repr((flags, files)).encode()).hexdigest()
            name = f"{Path(source).stem}-{digest[:32]}"
            return OBJECTS / (name + self.compiler.obj_extension)

        def compiled(source: str) -> str:
            while not (kept := place(source)).exists():
                with tempfile.TemporaryDirectory(dir=OBJECTS) as folder:
                    (made,) = self._compile([source], output_dir=folder, **options)
                    if kept == place(source):  # else somebody edited it meanwhile
                        Path(made).replace(kept)
            kept.touch()
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
            ask = [found, "--version"]
            version = subprocess.run(ask, capture_output=True, text=True, check=False).stdout
        return [*command, version, sys.version, pybind11.__version__]

    def _forget(self) -> None:
        """What nothing has used for a month goes, and what interrupted builds left behind."""
        for old in OBJECTS.iterdir():
            if old.stat().st_mtime < time.time() - MONTH:
                shutil.rmtree(old) if old.is_dir() else old.unlink()


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
    packages=[*find_packages("src"), *FOLDERS],
    ext_modules=[kernels],
    cmdclass={"build": Fresh, "build_py": Carry, "build_ext": Build},
)
