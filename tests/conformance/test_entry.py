"""``pytest --pyargs quantbench.conformance --method NAME``, on plugins of somebody else."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest

from quantbench.conformance.conftest import asked_for
from tests.helpers.installed import environment, install

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

FICKLE = '''"""Depends on hashes and knows no embeddings; refuses everything."""

from dataclasses import dataclass
from typing import ClassVar

from quantbench import Method, method


@dataclass(frozen=True)
class Fickle(Method):
    """Round to nearest, and shift biases by a hash of a text."""

    name: ClassVar[str] = "fickle"

    def apply(self, job):
        """Every layer."""
        if any(layer.kind == "embedding" for layer in job.net.layers):
            raise TypeError("no embeddings")
        q = method("nearest").apply(job).need()
        for layer in q.layers():
            layer.bias.data += hash(layer.info.name) / 2**63
        return job.done(q)


@dataclass(frozen=True)
class Nowhere(Method):
    """Refuse."""

    name: ClassVar[str] = "nowhere"

    def unsupported(self, net, scheme):
        """Always with a reason."""
        return "this method is for networks of the future"

    def apply(self, job):
        """Never."""
        return job
'''

PROJECT = """[project]
name = "quantbench-fickle"
version = "0.1.0"

[project.entry-points."quantbench.methods"]
fickle = "quantbench_fickle:Fickle"
nowhere = "quantbench_fickle:Nowhere"

[tool.setuptools]
packages = ["quantbench_fickle"]
"""


def conform(folder, *arguments):
    """Exit status, output, and names of the tests by their outcome, from an empty folder."""
    (folder / "empty").mkdir()
    command = [sys.executable, "-m", "pytest", "--pyargs", "quantbench.conformance"]
    command += ["--junit-xml=found.xml", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(
        command,
        cwd=folder / "empty",
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    outcomes = {"failure": set(), "skipped": set(), "": set()}
    if done.returncode < 2:
        for case in ET.parse(folder / "empty" / "found.xml").iter("testcase"):
            kinds = [part.tag for part in case if part.tag in outcomes]
            outcomes[kinds[0] if kinds else ""].add(case.get("name"))
    return done.returncode, done.stdout + done.stderr, outcomes


@pytest.mark.slow
def test_a_plugin_that_conforms(tmp_path):
    install(EXAMPLES / "halfway", tmp_path)
    status, said, found = conform(tmp_path, "--method", "halfway", "-k", "residual or bits")
    assert status == 0, said
    assert "test_it_lowers_to_integers_exactly[halfway-residual-integer]" in found[""]
    assert "test_another_process_gives_the_same_bits[halfway]" in found[""]


def test_plugins_that_do_not(tmp_path):
    source = tmp_path / "source"
    (source / "quantbench_fickle").mkdir(parents=True)
    (source / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    (source / "quantbench_fickle" / "__init__.py").write_text(FICKLE, encoding="utf-8")
    install(source, tmp_path)
    tests = "somewhere or says_why or same_seed or another_process"
    status, said, found = conform(
        tmp_path, "--method", "fickle", "--method", "nowhere", "-k", tests
    )
    assert status == 1
    assert found["failure"] == {
        "test_another_process_gives_the_same_bits[fickle]",
        "test_it_works_or_says_why[fickle-transformer-w4a8]",
        "test_it_works_or_says_why[fickle-transformer-integer]",
        "test_it_works_or_says_why[fickle-decoder-w4a8]",
        "test_it_works_or_says_why[fickle-decoder-integer]",
        "test_it_works_somewhere[nowhere]",
    }
    assert "nothing may depend on the process" in said
    assert "it raises TypeError: no embeddings (__init__.py, line" in said
    assert "works on no network: this method is for networks of the future" in said
    assert "test_the_same_seed_gives_the_same_bits[fickle-residual-w4a8]" in found[""]
    assert "test_the_same_seed_gives_the_same_bits[nowhere-residual-w4a8]" in found["skipped"]


def config(*names):
    return SimpleNamespace(getoption={"method": list(names)}.get)


def test_without_a_known_method_there_is_advice():
    with pytest.raises(pytest.UsageError, match="--method NAME, or --method all"):
        asked_for(config())
    with pytest.raises(pytest.UsageError, match="no method 'nearst'; did you mean nearest"):
        asked_for(config("nearst"))


def test_pipelines_and_all_methods_can_be_asked_for():
    assert asked_for(config("nearest+ibc", "nearest+ibc")) == ["nearest+ibc"]
    assert {"nearest", "apot", "bn-tuning"} <= set(asked_for(config("all")))
