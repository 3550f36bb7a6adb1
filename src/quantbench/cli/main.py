"""The ``quantbench`` command. Errors for people go to stderr and end with status 2; a missed gate ends with 1."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from quantbench import __version__
from quantbench.errors import BadInput, QuantbenchError, did_you_mean


class _Parser(argparse.ArgumentParser):
    """Says what was probably meant."""

    def error(self, message: str) -> NoReturn:
        """A wrong word is answered with the nearest right ones."""
        if "invalid choice: '" in message:
            word, known = message.split("'")[1], message.partition("choose from ")[2].rstrip(")")
            what = message.partition("argument ")[2].partition(":")[0]
            message = f"no {what} {word!r}{did_you_mean(word, [k.strip(chr(39)) for k in known.split(', ')])}"
        super().error(message)


def _parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = _Parser(
        prog="quantbench", description="Reproduce, compare and gate quantization papers."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(
        dest="command", required=True, parser_class=_Parser, metavar="command"
    )

    def add(
        name: str, text: str, *, claims: bool = False, runs: bool = False
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        if claims:
            sub.add_argument("papers", nargs="*", metavar="PAPER", help="only these papers")
            sub.add_argument(
                "-k",
                dest="select",
                default="",
                metavar="EXPR",
                help="such as 'w4 and resnet20 not apot'",
            )
            sub.add_argument(
                "--tier",
                choices=("embedded", "long", "real", "online"),
                help="only this tier of data",
            )
        if runs:
            sub.add_argument(
                "--runs", default="runs", metavar="FOLDER", help="where results are kept"
            )
        return sub

    add("list", "list papers, methods and claims", claims=True)
    show = add(
        "show",
        "show a claim with what its runs measured, a method, a paper or a model in full",
        runs=True,
    )
    show.add_argument("name")
    run = add("run", "run claims and judge them", claims=True, runs=True)
    run.add_argument("--device", default="cpu", help="cpu or cuda")
    why = add("why", "say whether a claim's runs are finished, and what changed if not", runs=True)
    why.add_argument("claim")
    add("gate", "compare finished runs with the accepted baseline", claims=True, runs=True)
    add("accept", "make finished runs the baseline", claims=True, runs=True)
    add("report", "write the report of finished runs again", claims=True, runs=True)
    latency = add(
        "latency", "time integer networks on every installed runtime, side by side", runs=True
    )
    latency.add_argument(
        "-k", dest="select", default="", metavar="EXPR", help="such as 'resnet20 or linear'"
    )
    latency.add_argument(
        "--seconds", type=float, default=6.0, help="time for each table (default: 6)"
    )
    latency.add_argument(
        "--threads", type=int, default=1, help="also on this many threads; 0 for all cores"
    )
    data = add(
        "data",
        "bring data here: pull (DVC), fetch NAME (its source), remote FOLDER (index a plain folder)",
    )
    data.add_argument("action", choices=("status", "pull", "fetch", "remote"))
    data.add_argument("names", nargs="*", metavar="NAME")
    add("new", "start a method of your own from a small working file").add_argument("name")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    options = _parser().parse_args(argv)
    try:
        return _COMMANDS[options.command](options)
    except QuantbenchError as e:
        print(f"quantbench: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "quantbench: interrupted; finished cells are kept, the same command goes on from here",
            file=sys.stderr,
        )
        return 130


def _run(options: argparse.Namespace) -> int:
    """``quantbench run`` is pytest over the bench."""
    if options.device != "cpu":
        from quantbench.system.machine import device

        device(options.device)  # an error before anything starts
    return _pytest(options, ("test_claims.py", "test_integer.py"), f"--qb-device={options.device}")


def _latency(options: argparse.Namespace) -> int:
    """``quantbench latency`` is pytest over the side-by-side benches, and a page of what they measured."""
    import pytest

    from quantbench.report import latency_page, latency_tracking, write
    from quantbench.system.atomic import locked

    bench = _bench()
    args = [
        *(str(bench / name) for name in ("test_latency.py", "test_linear.py")),
        "-q",
        "-s",
        "-p",
        "no:cacheprovider",
    ]
    args += [
        "--rootdir",
        str(bench),
        "-c",
        str(bench / "pytest.ini"),
        "--no-header",
        "--import-mode=importlib",
    ]
    args += [
        f"--qb-runs={options.runs}",
        f"--qb-seconds={options.seconds}",
        f"--qb-threads={options.threads}",
    ]
    status = int(pytest.main([*args, "-k", options.select]))
    runs = Path(options.runs)
    if path := latency_page.write(runs):
        print(f"report: {path}")
        with locked(runs):
            print(write.recorded(runs, lambda: latency_tracking.upload(runs)))
    return status


def _bench() -> Path:
    """Folder of the installed bench."""
    import quantbench.bench

    return Path(next(iter(quantbench.bench.__path__)))


def _report(options: argparse.Namespace) -> int:
    """Judging finished cells again writes the report; unfinished ones are skipped."""
    if not Path(options.runs).is_dir():
        raise BadInput(
            f"there is no folder {options.runs!r} of finished runs: quantbench run makes one"
        )
    return _pytest(options, ("test_claims.py",), "--qb-finished")


def _pytest(options: argparse.Namespace, files: Sequence[str], *more: str) -> int:
    """Run files of the bench."""
    import pytest

    from quantbench.claims.catalog import read_claims
    from quantbench.claims.select import select

    claims = select(
        [c for p in options.papers for c in read_claims(p)] if options.papers else read_claims(),
        options.select,
    )  # errors before pytest starts
    if not any(options.tier in (None, c.tier) for c in claims):
        tier = f" in the {options.tier} tier" if options.tier else ""
        print(
            f"quantbench: no claim matches {options.select!r}{tier}; quantbench list shows them all",
            file=sys.stderr,
        )
        return 2
    bench = _bench()
    args = [
        *(str(bench / file) for file in files),
        "--rootdir",
        str(bench),
        "-q",
        "-p",
        "no:cacheprovider",
        f"--qb-runs={options.runs}",
    ]
    args += [
        "-c",
        str(bench / "pytest.ini"),
        f"--qb-select={options.select}",
        "--no-header",
        "--import-mode=importlib",
    ]
    args += [f"--qb-paper={p}" for p in options.papers] + (
        [f"--qb-tier={options.tier}"] if options.tier else []
    )
    return int(pytest.main([*args, *more]))


def _list(options: argparse.Namespace) -> int:
    from quantbench.cli.listing import print_list

    return print_list(options.papers, options.select, options.tier)


def _show(options: argparse.Namespace) -> int:
    from quantbench.cli.listing import print_one

    return print_one(options.name, Path(options.runs))


def _why(options: argparse.Namespace) -> int:
    from quantbench.claims.catalog import find, read_claims
    from quantbench.runs.lab import Lab

    lab = Lab(Path(options.runs))
    own, against = lab.cells(find(read_claims(), options.claim))
    for cell in (*own.values(), *against.values()):
        print(lab.ledger.why(cell))
    return 0


def _gate(options: argparse.Namespace) -> int:
    from quantbench.cli.gate import gate

    return gate(Path(options.runs), options.papers, options.select, tier=options.tier)


def _accept(options: argparse.Namespace) -> int:
    from quantbench.cli.gate import accept

    return accept(Path(options.runs), options.papers, options.select, tier=options.tier)


def _data(options: argparse.Namespace) -> int:
    from quantbench.cli import data as datacommand

    return datacommand.run(options.action, options.names)


def _new(options: argparse.Namespace) -> int:
    from quantbench.cli.new import new

    return new(options.name, Path.cwd())


_COMMANDS = {
    "list": _list,
    "show": _show,
    "run": _run,
    "why": _why,
    "gate": _gate,
    "accept": _accept,
    "latency": _latency,
    "report": _report,
    "data": _data,
    "new": _new,
}
