"""The native kernels: an optional extension, so that a machine without a compiler still installs everything else."""

import sys
from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension, build_ext
from setuptools import find_packages, setup

FOLDER = Path("src/quantbench/csrc")
# Bit-identical results need every product rounded on its own; the rest lets loops with floats
# become vectors, and silences gcc's false alarms inside its own intrinsics.
FLAGS = ["-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-Wno-uninitialized",
         "-Wno-maybe-uninitialized"]  # fmt: skip


class Build(build_ext):
    """Says what is lost when the kernels cannot be compiled, and goes on without them."""

    def build_extension(self, ext: Pybind11Extension) -> None:
        """Compile; a failure is announced here, and forgiven by setuptools because the extension is optional."""
        try:
            super().build_extension(ext)
        except Exception:
            self.warn(
                "no native kernels: they need a C++17 compiler. The other integer backends work without."
            )
            raise


kernels = Pybind11Extension(
    "quantbench._native",
    sorted(str(f) for f in FOLDER.rglob("*.cpp")),
    depends=sorted(str(f) for f in FOLDER.rglob("*.h")),
    cxx_std=17,
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
