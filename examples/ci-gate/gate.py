"""Run the claims of one paper and compare them with the baseline that this repository accepted.

    python gate.py            run, compare; the exit status is 1 when a result changed
    python gate.py --accept   run, and make the results the baseline
    python gate.py --no-run   compare what is finished

`quantbench gate` compares with `reference/baseline.json` of the clone of quantbench. Your
repository keeps a file of its own: the functions behind the command take its path.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from quantbench.cli import gate
from quantbench.cli.main import main as quantbench


def main() -> int:
    """Run, then accept or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paper", default="halfway", help="whose claims")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where results are kept")
    parser.add_argument("--baseline", type=Path, default=Path("quantization-baseline.json"))
    parser.add_argument("--accept", action="store_true", help="make the results the baseline")
    parser.add_argument("--no-run", action="store_true", help="take what is finished")
    options = parser.parse_args()
    status = 0
    if not options.no_run:
        status = quantbench(["run", options.paper, "--runs", str(options.runs)])
    if status not in (0, 1):  # 1: a claim was missed, which is the gate's business below
        return status
    judge = gate.accept if options.accept else gate.gate
    return judge(options.runs, [options.paper], "", options.baseline)


if __name__ == "__main__":
    raise SystemExit(main())
