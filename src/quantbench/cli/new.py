"""``quantbench new``: a plugin that works from the start, in a folder of its own."""

from __future__ import annotations

import keyword
import shutil
from pathlib import Path

from quantbench.errors import BadInput, CannotWrite
from quantbench.quantization.registry import methods

_METHOD = '''"""{title}: say in one line what the paper does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from quantbench import Job, Method, weight_range


@dataclass(frozen=True)
class {title}(Method):
    """Round each weight down, unless its fraction exceeds a threshold.

    Attributes:
        threshold: fraction above which a weight is rounded up; 0.5 is rounding to nearest.

    """

    name: ClassVar[str] = "{name}"
    threshold: float = 0.5

    def apply(self, job: Job) -> Job:
        """One layer after the other."""
        q = job.start()
        for layer in q.layers():
            qp = weight_range(q, layer, job.calib)
            low, high = qp.bracket(layer.original)  # neighbouring codes below and above each weight
            up = layer.original / qp.scale + qp.zero - low > self.threshold
            layer.set_codes(high.where(up, low), qp)
        q.calibrate_acts(job.calib)
        return job.done(q)
'''

_PROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "quantbench-{name}"
version = "0.1.0"
dependencies = ["quantbench"]

[project.entry-points."quantbench.methods"]
{name} = "quantbench_{name}:{title}"

[project.entry-points."quantbench.reference"]
{name} = "quantbench_{name}"

[tool.setuptools]
packages = ["quantbench_{name}"]

[tool.setuptools.package-data]
quantbench_{name} = ["*.toml"]
"""

_CLAIMS = """paper = "{name}"
title = "{title}"
arxiv = "0000.00000"

[defaults]
data = "shapes/test"
calib = {{ data = "shapes/calib", n = 256 }}

[models]
resnet8 = {{ name = "shapes/resnet8" }}

[schemes.default]
weights = {{ range = "mse" }}

[sources]
here = {{ paper = "quantbench", table = "here", reported = "project", status = "read" }}
"""

_TEST = """from quantbench import check

from quantbench_{name} import {title}


def test_conformance():
    check({title}())
"""


def new(name: str, parent: Path) -> int:
    """Write ``quantbench-NAME`` below ``parent``.

    Raises:
        BadInput: a name that cannot be a module's, that is taken, or a folder that exists.
        CannotWrite: the system refuses.

    """
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower():
        raise BadInput(f"{name!r} cannot name a method: use lower-case letters, digits and _")
    if name in methods():
        raise BadInput(f"there is a method {name!r} already; quantbench show {name}")
    root = parent / f"quantbench-{name}"
    if root.exists():
        raise BadInput(f"{root} exists; nothing was written")
    package = root / f"quantbench_{name}"
    about = {"name": name, "title": "".join(part.title() for part in name.split("_"))}
    files = {
        root / "pyproject.toml": _PROJECT,
        package / "__init__.py": _METHOD,
        package / f"{name}.toml": _CLAIMS,
        root / f"test_{name}.py": _TEST,
    }
    try:
        package.mkdir(parents=True)
        for path, text in files.items():
            path.write_text(text.format(**about), encoding="utf-8")
    except OSError as e:
        shutil.rmtree(root, ignore_errors=True)
        raise CannotWrite(f"cannot write {root}: {e.strerror}; nothing was left behind") from e
    print(f"{root}: the method is {package / '__init__.py'}")
    print(f"next: pip install -e {root} && pytest {root}")
    return 0
