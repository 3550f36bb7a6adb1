"""In somebody else's repository: from a wheel, without a clone."""

import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import blocks
from tests.helpers.installed import fresh, wheel

CLONE = Path(__file__).parents[1]


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


@pytest.mark.slow
def test_a_plugin_works_from_an_installed_wheel(elsewhere):
    folder, env = elsewhere
    assert call("quantbench data pull embedded", folder, env) == (0, "")
    status, out = call("quantbench new rounder", folder, env)
    assert status == 0, out
    assert [path.name for path in folder.iterdir()] == ["quantbench-rounder"]

    plugin = folder / "quantbench-rounder"
    for block in blocks(plugin / "README.md"):
        for command in block.text.splitlines():
            if "--baseline" in command:
                continue
            status, out = call(command, plugin, env)
            assert status == 0, f"{command}\n{out}"
    assert (plugin / "runs" / "report" / "index.html").is_file()
