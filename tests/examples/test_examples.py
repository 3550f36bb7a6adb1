"""Every example does what it says: each is run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from quantbench.cli.main import main
from tests.helpers.installed import environment, install, module

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder in which the separate distribution is installed."""
    folder = tmp_path_factory.mktemp("site")
    install(EXAMPLES / "halfway", folder)
    return folder


@pytest.fixture
def installed(site, monkeypatch):
    """The separate distribution, found by this process."""
    sys.modules.pop("quantbench_halfway", None)  # one of the same name, from another folder
    monkeypatch.syspath_prepend(site)
    yield
    sys.modules.pop("quantbench_halfway", None)


@pytest.mark.slow
def test_quantize_your_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    module(EXAMPLES / "quantize_your_own.py", monkeypatch).main()
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[:2]] == ["nearest", "adaround"]
    assert "native: 100.0% of the answers are the simulation's" in out
    assert "saved and loaded: the same network" in out


@pytest.mark.usefixtures("installed")
def test_a_separate_distribution_is_found(capsys):
    assert main(["show", "halfway"]) == 0
    assert "threshold = 0.5" in capsys.readouterr().out
    assert main(["list", "halfway"]) == 0
    assert capsys.readouterr().out.split() == [
        *("embedded", "halfway/shapes/resnet8/w8a8/here-harmless", "drop", "<=", "1"),
        *("embedded", "halfway/shapes/resnet8/w4/here-middle", "below"),
        "halfway(threshold=0.6)",
    ]


@pytest.mark.usefixtures("installed")
def test_a_separate_distribution_passes_its_own_tests(monkeypatch):
    tests = module(EXAMPLES / "halfway" / "test_halfway.py", monkeypatch)
    found = [value for name, value in vars(tests).items() if name.startswith("test_")]
    assert len(found) == 2
    for test in found:
        test()


@pytest.mark.slow
def test_the_gate_accepts_and_catches_a_change(tmp_path, site):
    """The commands of examples/ci-gate, in a folder that is no clone."""
    env = environment(site)

    def quantbench(*words, status=0):
        command = [sys.executable, "-m", "quantbench", *words]
        ran = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert ran.returncode == status, ran.stdout + ran.stderr
        return ran.stdout

    held = ("halfway", "--baseline", "baseline.json")
    assert "1 HOLDS, 1 AHEAD" in quantbench("run", "halfway", "--summary", "summary.md")
    assert "## quantbench run" in (tmp_path / "summary.md").read_text()
    quantbench("accept", *held)
    assert "cells: 3 identical" in quantbench("gate", *held)

    baseline = tmp_path / "baseline.json"
    accepted = json.loads(baseline.read_text())
    cell = next(iter(accepted["cells"].values()))
    cell["marks"] = dict.fromkeys(cell["marks"], "another")
    baseline.write_text(json.dumps(accepted))
    out = quantbench("gate", *held, "--junit", "gate.xml", status=1)
    assert "cells: 2 identical, 1 moved" in out
    assert 'failures="1"' in (tmp_path / "gate.xml").read_text()


def test_gitlabs_recipe_calls_the_gate_and_keeps_what_it_says():
    """The keys that GitLab documents; its job runs what tests/test_installed.py runs."""
    job = yaml.safe_load((EXAMPLES / "ci-gate" / "gitlab-ci.yml").read_text("utf-8"))["gate"]
    assert job["script"][-1] == "sh gate.sh halfway"
    assert job["allow_failure"] == {"exit_codes": 3}
    script = (EXAMPLES / "ci-gate" / "gate.sh").read_text("utf-8")
    kept = [job["artifacts"]["reports"]["junit"], "runs/gate.md"]
    assert all(file in script for file in kept)
    assert kept[1] in job["artifacts"]["paths"]
    assert {"runs/", ".quantbench/"} <= set(job["cache"]["paths"])
    assert job["variables"]["QUANTBENCH_CACHE"].endswith("/.quantbench")
