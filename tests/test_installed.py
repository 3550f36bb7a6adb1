"""In somebody else's repository: from a wheel, without a clone, until the gate fails."""

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import blocks
from tests.helpers.installed import fresh, wheel

CLONE = Path(__file__).parents[1]

EMBEDDED = (
    "text/qa/bert/w8a8-channel/here-nearest"  # a claim of this repository on data of the wheel
)


def call(command, folder, env):
    """Status and output of a shell command."""
    ran = subprocess.run(
        ["bash", "-ec", command], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    return ran.returncode, ran.stdout + ran.stderr


@pytest.fixture
def elsewhere(tmp_path):
    """A folder that is in no clone, and an environment with nothing but the wheel of this one."""
    (tmp_path / "built").mkdir()
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder, fresh(tmp_path / "environment", wheel(CLONE, tmp_path / "built"))


def steps(plugin):
    """The commands of the plugin's workflow, by the names of the steps."""
    workflow = yaml.safe_load((plugin / ".github/workflows/quantbench.yml").read_text())
    return {s["name"]: s["run"] for s in workflow["jobs"]["gate"]["steps"] if "name" in s}


@pytest.mark.slow
def test_a_plugin_is_gated_from_an_installed_wheel(elsewhere):
    folder, env = elsewhere
    assert call("quantbench data pull embedded", folder, env) == (0, "")
    status, out = call(f"quantbench run -k {EMBEDDED}", folder, env)
    assert status in (0, 3), out
    assert "SKIP" not in out
    assert "1 HOLDS" in out
    status, out = call("quantbench new rounder", folder, env)
    assert status == 0, out
    assert {path.name for path in folder.iterdir()} == {"runs", "quantbench-rounder"}

    plugin = folder / "quantbench-rounder"
    for block in blocks(plugin / "README.md"):
        for command in block.text.splitlines():
            status, out = call(command, plugin, env)
            assert status == 0, f"{command}\n{out}"
    assert (plugin / "baseline.json").is_file()

    method, right = plugin / "quantbench_rounder" / "__init__.py", "> self.threshold"
    text = method.read_text()
    assert right in text
    method.write_text(text.replace(right, "> 0.6"))
    run, gate = steps(plugin).values()
    summary = folder / "summary.md"
    env["GITHUB_STEP_SUMMARY"] = str(summary)
    status, out = call(run, plugin, env)
    assert status == 1, out
    status, out = call(gate, plugin, env)
    assert status == 1, out
    for told in (out, summary.read_text(), (plugin / "runs" / "gate.xml").read_text()):
        assert "shapes/resnet8/w4" in told
    assert "::error" in out
    status, out = call(f"sh {CLONE / 'examples/ci-gate/gate.sh'} rounder", plugin, env)
    assert status == 1, out
