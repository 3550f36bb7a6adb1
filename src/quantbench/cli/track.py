"""``quantbench track``: finished runs to an MLflow server."""

from __future__ import annotations

import argparse
from pathlib import Path

from quantbench.errors import BadInput


def track(options: argparse.Namespace) -> int:
    """Upload what the server lacks; 1 where a run's integer network is damaged.

    Raises:
        BadInput: no folder of runs, or nothing finished in it.
        CannotWrite: the server does not answer.

    """
    from quantbench.claims.select import chosen
    from quantbench.gate.asked import asked
    from quantbench.report.server.upload import Server
    from quantbench.runs.lab import Lab
    from quantbench.system.progress_bar import progress_bar

    runs = Path(options.runs)
    if not runs.is_dir():
        raise BadInput(f"there is no folder {options.runs!r} of finished runs")
    claims = chosen(options.papers, options.select, options.tier)
    show = progress_bar()
    found = asked(Lab(runs), claims, show)
    cells = [(one.claim.paper, record) for one in found for record in one.records]
    if not cells:
        raise BadInput(f"no finished run of these claims in {runs}: quantbench run makes some")
    done = Server(options.to, runs, progress=show).upload(cells)
    every = {(paper, record.key): record.id for paper, record in cells}
    there = sum(name not in done.refused for name in every.values()) - done.new
    print(f"{options.to}: {done.new} runs uploaded, {there} were there")
    if done.refused:
        print(f"not whole, named above: {', '.join(done.refused)}")
    return 1 if done.refused else 0
