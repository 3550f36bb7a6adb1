"""What Python does with an interrupt where it cannot raise it."""

import signal
import subprocess
import sys

IN_A_DESTRUCTOR = """
import signal, time
from quantbench.system.interrupt import ends_soon

class Held:
    def __del__(self):
        {what}

signal.signal(signal.SIGINT, signal.default_int_handler)
with ends_soon("all is kept"):
    Held()
    time.sleep({then})
"""


def ran(what, then):
    """The script with this in the destructor, and seconds that it goes on."""
    command = [sys.executable, "-c", IN_A_DESTRUCTOR.format(what=what, then=then)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=15)


def test_an_interrupt_that_a_destructor_swallows_ends_the_process_without_a_traceback():
    ended = ran("signal.raise_signal(signal.SIGINT)", 10)
    assert ended.returncode == 128 + signal.SIGINT
    assert ended.stderr == "quantbench: interrupted; all is kept\n"


def test_any_other_error_of_a_destructor_is_still_told():
    ended = ran("raise TypeError('of mine')", 0)
    assert "TypeError: of mine" in ended.stderr
    assert ended.returncode == 0


IN_AN_IMPORT = """
import signal, sys
from quantbench.system.interrupt import ends_soon

signal.signal(signal.SIGINT, signal.default_int_handler)
with ends_soon("all is kept"):
    sys.path.insert(0, {folder!r})
    import slow_to_import
"""

SLOW = """
import signal, time
try:
    signal.raise_signal(signal.SIGINT)
    time.sleep(10)
except KeyboardInterrupt:
    print("a library meets the interrupt")
"""


def test_an_interrupt_is_not_raised_into_an_import(tmp_path):
    # torch's setup in C++ aborts the process then
    (tmp_path / "slow_to_import.py").write_text(SLOW, encoding="utf-8")
    command = [sys.executable, "-c", IN_AN_IMPORT.format(folder=str(tmp_path))]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=15)
    assert ended.returncode == 128 + signal.SIGINT
    assert (ended.stdout, ended.stderr) == ("", "quantbench: interrupted; all is kept\n")
