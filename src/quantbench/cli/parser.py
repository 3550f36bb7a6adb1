"""The commands and their options."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn

from quantbench import __version__
from quantbench.errors import did_you_mean

CLAIMS, HOURS, RUNS, BASELINE, CI = (
    "claims",
    "hours",
    "runs",
    "baseline",
    "ci",
)  # groups of options that several commands share


class Parser(argparse.ArgumentParser):
    """Says what was probably meant."""

    def error(self, message: str) -> NoReturn:
        """A wrong word is answered with the nearest right ones."""
        if "invalid choice: '" in message:
            word, listed = message.split("'")[1], message.partition("choose from ")[2].rstrip(")")
            known = [choice.strip("'") for choice in listed.split(", ")]
            what = message.partition("argument ")[2].partition(":")[0]
            message = f"no {what} {word!r}{did_you_mean(word, known)}"
        super().error(message)


def parser() -> Parser:
    """All commands and their options."""
    top = Parser(prog="quantbench", description="Reproduce, compare and gate quantization papers.")
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(
        dest="command", required=True, parser_class=Parser, metavar="command"
    )

    def add(name: str, text: str, *shared: str) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
        for group in shared:
            _SHARED[group](command)
        return command

    add("list", "list papers, methods and claims", CLAIMS)
    about = "show a claim with what its runs measured, a method, a paper or a model in full"
    add("show", about, RUNS).add_argument("name")
    run = add("run", "run claims and judge them", CLAIMS, HOURS, RUNS, CI)
    run.add_argument("--device", default="cpu", help="cpu or cuda")
    about = "cells that run at once, each in a process and on one thread (default: 1, on all)"
    run.add_argument("--workers", type=int, default=1, metavar="N", help=about)
    about = "say whether a claim's runs are finished, and what changed if not"
    add("why", about, RUNS).add_argument("claim")
    about = "compare finished runs with the accepted baseline"
    add("gate", about, CLAIMS, HOURS, RUNS, BASELINE, CI)
    _add_reason(add("accept", "make finished runs the baseline", CLAIMS, HOURS, RUNS, BASELINE))
    about = "run methods x cells x networks x seeds, from a file or from words"
    _add_sweep(add("sweep", about, RUNS))
    add("report", "write the report of finished runs again", CLAIMS, RUNS)
    _add_measured(add("measured", "write the verdicts of finished runs into reference/measured.md"))
    about = "time integer networks on every installed runtime, side by side"
    _add_timing(add("latency", about, RUNS))
    track = add("track", "send finished runs to an MLflow server", CLAIMS, RUNS)
    about = "address of the server, such as http://localhost:5000, or of a store"
    track.add_argument("--to", required=True, metavar="URI", help=about)
    about = "pull (DVC), fetch NAME (its source), remote FOLDER (index a plain folder)"
    data = add("data", f"bring data here: {about}")
    data.add_argument("action", choices=("status", "pull", "fetch", "remote"))
    data.add_argument("names", nargs="*", metavar="NAME")
    _add_onnx(add("onnx", "read quantized ONNX files of any tool; compare with our own", RUNS))
    about = "put scores that another tool measured beside our finished runs; no verdict reads them"
    _add_import(add("import", about, RUNS))
    add("new", "start a method of your own from a small working file").add_argument("name")
    return top


def _add_claims(command: argparse.ArgumentParser) -> None:
    """Which claims; see :func:`quantbench.claims.select.chosen`."""
    command.add_argument("papers", nargs="*", metavar="PAPER", help="only these papers")
    _add_expression(command, "w4 and resnet20 not apot")
    tiers = ("embedded", "long", "real", "online")
    command.add_argument("--tier", choices=tiers, help="only this tier of data")


def _add_hours(command: argparse.ArgumentParser) -> None:
    about = "also claims that take up to so many hours on two cores (default: 2)"
    command.add_argument("--hours", type=float, metavar="N", help=about)


def _add_expression(command: argparse.ArgumentParser, example: str) -> None:
    about = f"such as '{example}'"
    command.add_argument("-k", dest="select", default="", metavar="EXPR", help=about)


def _add_runs(command: argparse.ArgumentParser) -> None:
    about = "where results are kept"
    command.add_argument("--runs", default="runs", metavar="FOLDER", help=about)


def _add_measured(command: argparse.ArgumentParser) -> None:
    """Of which runs, and where to."""
    about = "finished runs (default: runs); may be given several times"
    command.add_argument("--runs", dest="folders", action="append", metavar="FOLDER", help=about)
    about = "the file to write anew (default: reference/measured.md of the clone)"
    command.add_argument("--file", metavar="FILE", help=about)
    about = "also write tables of methods side by side, from claims of the paper tables"
    command.add_argument("--tables", metavar="FILE", help=about)


def _add_baseline(command: argparse.ArgumentParser) -> None:
    about = "accepted results (default: reference/baseline.json of the clone)"
    command.add_argument("--baseline", metavar="FILE", help=about)


def _add_reason(command: argparse.ArgumentParser) -> None:
    """What accepting a change needs."""
    about = "the reason, kept in the baseline; needed when anything changed"
    command.add_argument("--why", default="", metavar="TEXT", help=about)
    about = "accept results that lost against the best accepted ones"
    command.add_argument("--lower", action="store_true", help=about)
    about = "also drop accepted cells and claims that do not exist any more"
    command.add_argument("--forget", action="store_true", help=about)
    about = "hold no bits of any other run: a change moved them on machines that are not at hand"
    command.add_argument("--forget-bits", action="store_true", help=about)
    about = "hold no latencies: for a baseline that several machines share"
    command.add_argument("--no-latency", action="store_true", help=about)
    about = "hold all selected claims that gate, also those that did not run here"
    command.add_argument("--all-claims", action="store_true", help=about)


def _add_ci(command: argparse.ArgumentParser) -> None:
    """What a CI system reads."""
    command.add_argument("--junit", metavar="FILE", help="write JUnit XML")
    command.add_argument("--github", action="store_true", help="print GitHub annotations")
    about = "append a summary in Markdown, such as to $GITHUB_STEP_SUMMARY"
    command.add_argument("--summary", metavar="FILE", help=about)


def _add_onnx(command: argparse.ArgumentParser) -> None:
    """Which files, and what they are compared on."""
    command.add_argument("files", nargs="+", metavar="FILE", help="QDQ or QOperator ONNX files")
    command.add_argument("--model", help="network that they were made of, such as shapes/resnet8")
    command.add_argument("--eval", metavar="SET", help="images to score, such as shapes/test")
    command.add_argument("--calib", metavar="SET", help="calibration set of our own method")
    about = "calibration examples of our own method (default: 64)"
    command.add_argument("--examples", type=int, default=64, metavar="N", help=about)
    about = "our own method, at the bits of the first file (default: nearest)"
    command.add_argument("--method", default="nearest", help=about)
    command.add_argument("--seed", type=int, default=0, help="of our own method (default: 0)")


def _add_import(command: argparse.ArgumentParser) -> None:
    """Which files, and what they are scores of."""
    about = "CSV with a head such as 'mytool w4a8' for each column, one line an example"
    command.add_argument("files", nargs="+", metavar="FILE", help=about)
    about = "network that was quantized, such as shapes/resnet8"
    command.add_argument("--model", required=True, help=about)
    about = "examples that were scored, such as shapes/test"
    command.add_argument("--eval", required=True, metavar="SET", help=about)


def _add_sweep(command: argparse.ArgumentParser) -> None:
    """What is swept, and where it runs."""
    about = "TOML file of methods, schemes, networks and seeds"
    command.add_argument("file", nargs="?", metavar="FILE", help=about)
    for name, about in (
        ("methods", "methods by name"),
        ("cells", "such as w4 w4a8-channel; suffixes: channel, integer, edges"),
        ("networks", "each optionally with =SET, what it is evaluated on"),
    ):
        command.add_argument(f"--{name}", nargs="+", default=[], metavar="NAME", help=about)
    about = "calibration set and examples drawn from it (default: 256 of the network's own)"
    command.add_argument("--calib", default="", metavar="SET:N", help=about)
    command.add_argument("--seeds", type=int, metavar="N", help="how many (default: 1)")
    about = "count the cells and estimate the time; run nothing"
    command.add_argument("--dry-run", action="store_true", help=about)
    about = "only the i-th of n parts, for a CI matrix"
    command.add_argument("--shard", default="1/1", metavar="i/n", help=about)
    about = "where cells run: here, or on a Ray cluster (default: here)"
    command.add_argument("--engine", choices=("here", "ray"), default="here", help=about)
    about = "of the Ray cluster; by default one is started here"
    command.add_argument("--address", default="", help=about)
    command.add_argument("--device", default="cpu", help="cpu or cuda")
    command.add_argument("--table", metavar="FILE", help="also write the table there, in Markdown")


def _add_timing(command: argparse.ArgumentParser) -> None:
    """Which networks are timed, and how."""
    _add_expression(command, "resnet20 or linear")
    about = "time for each table (default: 6)"
    command.add_argument("--seconds", type=float, default=6.0, help=about)
    about = "also on this many threads; 0 for all cores"
    command.add_argument("--threads", type=int, default=1, help=about)


_SHARED: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    CLAIMS: _add_claims,
    HOURS: _add_hours,
    RUNS: _add_runs,
    BASELINE: _add_baseline,
    CI: _add_ci,
}
