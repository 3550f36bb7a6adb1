"""An instruction set is a folder and a line; an operator of the kernels a file and a line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from quantbench.integer.backends import native, native_assembly
from quantbench.integer.backends.native import Native
from quantbench.integer.testing.sanitize import SOURCES

COMPILER = os.environ.get("CXX", "g++")
ROOT = Path(__file__).parents[3]
FOLDERS = sorted(f.name for f in (SOURCES / "kernels").iterdir() if f.is_dir())
# What may name a set besides the list: the kind of machine, told by the system's names for flags;
# goals of latency, and the processors of the emulator, both by set; float kernels, which have a
# list of their own; and a set that has the code of another.
NAMING = {"runs/machine_kind.py", "latency/targets.py"}
BUILT_ON = {"avx2": "avxvnni"}


def naming(name: str) -> list[str]:
    """Lines that name an instruction set, outside of its folder: of C++, the package, the build."""
    package, own = SOURCES.parent, {name, BUILT_ON.get(name, name)}
    files = [p for p in package.rglob("*") if p.suffix in {".cpp", ".h", ".py"}]
    files = [p for p in files if p.relative_to(package).as_posix() not in NAMING]
    files += [ROOT / n for n in ("setup.py", "pyproject.toml")]
    apart = {SOURCES / "float", *(SOURCES / "kernels" / n for n in own)}
    return [
        file.name + ": " + line.strip(" \\")
        for file in files
        if not apart & set(file.parents)
        for line in file.read_text(encoding="utf-8").splitlines()
        if re.search(rf"\b{name}(_|\b)", line)
    ]


@pytest.mark.parametrize("name", FOLDERS)
def test_an_instruction_set_is_named_once_outside_of_its_folder(name: str) -> None:
    """Once for each set of a folder."""
    lines = naming(name)
    assert lines
    for line in lines:
        assert re.fullmatch(rf"dispatch\.cpp: SET\({name}(_\w+)?\)", line), line


NEW_SET = """
#include "kernels/kernels.h"
namespace qb {
const Kernels* brand_new_kernels() {
  static const Kernels table = [] { Kernels k = kPortable; k.name = "brand_new"; return k; }();
  return &table;
}
}
"""
MAIN = """
#include <cstdio>
#include "kernels/dispatch.h"
int main() {
  std::puts(qb::choose_kernels("").name);
  for (const auto& name : qb::instruction_sets()) std::puts(name.c_str());
}
"""


@pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"no compiler {COMPILER}")
def test_a_set_comes_and_goes_with_its_folder_and_its_line(tmp_path: Path) -> None:
    """Kernels without any of today's sets, and with a new one."""
    shutil.copytree(SOURCES / "base", tmp_path / "base")
    kernels = tmp_path / "kernels"
    shutil.copytree(SOURCES / "kernels", kernels, ignore=shutil.ignore_patterns(*FOLDERS))
    dispatch = (kernels / "dispatch.cpp").read_text(encoding="utf-8")
    for old in FOLDERS:
        dispatch = re.sub(rf"  SET\({old}(_\w+)?\) .*\n", "", dispatch)
    dispatch = dispatch.replace("  SET(portable)", "  SET(brand_new) \\\n  SET(portable)")
    (kernels / "dispatch.cpp").write_text(dispatch, encoding="utf-8")
    (kernels / "brand_new").mkdir()
    (kernels / "brand_new" / "kernels.cpp").write_text(NEW_SET, encoding="utf-8")
    (tmp_path / "main.cpp").write_text(MAIN, encoding="utf-8")
    sources = [*kernels.rglob("*.cpp"), tmp_path / "main.cpp"]
    command = [COMPILER, "-std=c++20", "-O0", f"-I{tmp_path}", *map(str, sources)]
    command += ["-o", str(tmp_path / "main")]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    ran = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["brand_new", "brand_new", "portable"]


@pytest.mark.skipif(Native("").available() is not None, reason=f"{Native('').available()}")
def test_every_kernel_has_an_operator_and_the_other_way_round() -> None:
    told = {kind for kind, _ in native_assembly._KERNELS.values()}
    assert told == set(native._module().operators())
