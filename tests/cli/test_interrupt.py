"""An interrupt at any moment: out within two seconds, code 130, what is kept, no traceback.

Commands run in processes of their own, on finished cells that are made up, so that reading and
writing takes them seconds.
"""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from quantbench.integer.backends.onnx.file import save_onnx
from quantbench.integer.lowering.lower import lower
from quantbench.quantization.method import quantize
from quantbench.quantization.presets import scheme
from quantbench.quantization.registry import make
from quantbench.runs.lab import Lab
from quantbench.system.interrupt import INTERRUPTED
from quantbench.tasks.registry import task
from tests.docs.pages import ROOT
from tests.sweeps.scale import finish_claims

MOMENTS = (0.6, 1.7, 4.0)  # seconds after the start

SECONDS = 2.0  # to be out in

RUN = ["run", "adaround", "-k", "resnet8 and w4"]

PLACE = ["--model", "shapes/resnet8", "--eval", "shapes/test"]

SWEEP = ["--methods", "adaround", "--cells", "w4", "--networks", "shapes/resnet8"]

KEPT = {
    "run": "finished cells and layers are kept",
    "run --workers 2": "finished cells and layers are kept",
    "sweep": "finished cells and layers are kept",
    "latency": "finished tables are kept",
    "data": "whole files are kept",
    "report": "finished cells are kept, and an earlier report",
    "accept": "the baseline is as it was",
    "gate": "nothing was written",
    "measured": "the file is as it was",
    "track": "whole runs are kept",
    "onnx": "nothing was written",
    "import": "finished cells and tables are kept",
}


@pytest.fixture(autouse=True)
def interrupts_are_heard():
    """A shell that starts tests in the background has them ignored, and so would the commands."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Every claim that the data at hand allow, finished."""
    folder = tmp_path_factory.mktemp("runs")
    finish_claims(Lab(folder))
    return folder


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A quantized network of another tool."""
    where = task("shapes/resnet8", "shapes/test")
    calib = where.calibration("shapes/calib", 8, seed=0)
    path = tmp_path_factory.mktemp("files") / "theirs.onnx"
    save_onnx(lower(quantize(make("nearest"), where.network(), calib, scheme("w8a8"))), path)
    return path


def scores(folder):
    """What another tool may have measured on the same examples."""
    path = folder / "theirs.csv"
    path.write_text("theirs w4\n" + "1\n0\n" * 5120, encoding="utf-8")
    return str(path)


def words(command, runs, empty, file):
    at = ["--runs", str(runs)]
    new = ["--runs", str(empty / "runs")]
    return {
        "run": [*RUN, *new],
        "run --workers 2": [*RUN, "--workers", "2", *new],
        "sweep": ["sweep", *SWEEP, *new],
        "latency": ["latency", "-k", "resnet20", "--seconds", "60", *new],
        "data": ["data", "pull", "embedded"],
        "report": ["report", *at],
        "accept": ["accept", "--baseline", str(empty / "b.json"), "--why", "made up", *at],
        "gate": ["gate", *at],
        "measured": ["measured", "--file", str(empty / "measured.md"), *at],
        "track": ["track", "--to", f"sqlite:///{empty / 'mlflow.db'}", *at],
        "onnx": ["onnx", str(file), *PLACE, "--calib", "shapes/calib", *new],
        "import": ["import", scores(empty), *PLACE, *at],
    }[command]


LAST = {"gate": "quantbench accept --why", "import": "quantbench report shows it"}


def done(command, empty, said):
    """Whether a command has left, or said, what comes at its end."""
    left = {"measured": "measured.md", "accept": "b.json"}.get(command)
    return LAST[command] in said if command in LAST else left and (empty / left).exists()


START = """
import sys
from pathlib import Path
from quantbench.data import roots
roots.clone_root = lambda: Path("clone").absolute()
from quantbench.cli.main import main
sys.exit(main())
"""


def interrupted(start, after, folder):
    """Seconds until it was out, exit code, and what it said; None where it had ended before."""
    started = subprocess.Popen(
        [sys.executable, *start],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        started.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        if started.poll() is not None:  # in this very moment
            return None
        begun = time.monotonic()
        started.send_signal(signal.SIGINT)
        out, said = started.communicate(timeout=60)
        return time.monotonic() - begun, started.returncode, out + said
    return None


@pytest.mark.slow
@pytest.mark.skipif(
    int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1,
    reason="seconds are counted, so no other test may run beside it: pytest "
    "tests/cli/test_interrupt.py, or nox -s interrupts",
)
@pytest.mark.parametrize("command", KEPT)
def test_an_interrupt_is_obeyed_at_once(command, runs, file, tmp_path):
    caught = 0
    for after in MOMENTS:
        empty = tmp_path / str(after)
        empty.mkdir()
        start = ["-m", "quantbench"]
        if command == "data":  # in a clone that has none yet
            skip = shutil.ignore_patterns("cache", "tmp", "real")
            shutil.copytree(ROOT / ".dvc", empty / "clone" / ".dvc", ignore=skip)
            shutil.copy(ROOT / "data.dvc", empty / "clone")
            start = ["-c", START]
        found = interrupted([*start, *words(command, runs, empty, file)], after, empty)
        if found is None:
            continue
        caught += 1
        seconds, code, said = found
        if seconds < SECONDS and code != INTERRUPTED and done(command, empty, said):
            continue  # it had done its work, and Python was on its way out
        print(f"{command} after {after} s: {seconds:.2f} s")
        # Python ends by the signal where code in a string was running; to shells both are 130
        assert code in (INTERRUPTED, -signal.SIGINT), said
        assert "Traceback" not in said
        assert f"interrupted; {KEPT[command]}" in said
        assert seconds < SECONDS
    assert caught, "it was never in the midst of anything"
