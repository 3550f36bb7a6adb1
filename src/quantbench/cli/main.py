"""The ``quantbench`` command.

Errors for people go to stderr and end with status 2; a missed claim or gate ends with 1, and what
is only undecided with 3.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import select
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from quantbench.cli.parser import parser
from quantbench.errors import QuantbenchError
from quantbench.system.interrupt import INTERRUPTED, ends_soon

# 128 + SIGPIPE; the 1 that Python itself ends with would say that a gate was missed
NO_READER = 141

# a disk that takes no more, which any write may meet: no defect of the command
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    try:
        try:
            return _main(argv)
        finally:
            sys.stdout.flush()  # a reader that went away is noticed here at the latest
    except BrokenPipeError:
        if not _reader_left():
            raise  # a socket's, or that of another process's pipe: an error like any other
        # such as head, which has read enough. Python flushes once more when it exits: into nothing
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER


def _reader_left() -> bool:
    """Whether nobody reads stdout any more."""
    try:
        stdout = sys.stdout.fileno()
    except io.UnsupportedOperation:  # text in memory
        return False
    poll = select.poll()
    poll.register(stdout, 0)  # errors are always told
    return bool(poll.poll(0))


def _main(argv: Sequence[str] | None) -> int:
    """Run a command, with errors for people in words."""
    options = parser().parse_args(argv)
    kept = _KEPT.get(options.command, "nothing was written")
    try:
        # a caller that goes on afterwards is not ended
        with ends_soon(kept) if argv is None else nullcontext():
            return _COMMANDS[options.command](options)
    except QuantbenchError as e:
        print(f"quantbench: {e}", file=sys.stderr)
        return 2
    except OSError as e:
        if e.errno not in _NO_ROOM:
            raise
        where = e.filename or "a file"
        print(
            f"quantbench: cannot write {where}: {e.strerror}; what was stored before is kept",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print(f"quantbench: interrupted; {kept}", file=sys.stderr)
        return INTERRUPTED


_GOES_ON = "the same command goes on from here"

_KEPT = {  # after an interrupt, by command
    "run": f"finished cells and layers are kept, {_GOES_ON}",
    "sweep": f"finished cells and layers are kept, {_GOES_ON}",
    "latency": "finished tables are kept",
    "data": f"whole files are kept, {_GOES_ON}",
    "track": f"whole runs are kept, {_GOES_ON}",
    "report": "finished cells are kept, and an earlier report",
    "accept": "the baseline is as it was",
    "measured": "the file is as it was",
    "import": f"finished cells and tables are kept, {_GOES_ON}",
}


def _list(options: argparse.Namespace) -> int:
    from quantbench.cli.listing import print_list

    return print_list(options.papers, options.select, options.tier)


def _show(options: argparse.Namespace) -> int:
    from quantbench.cli.listing import print_one

    return print_one(options.name, Path(options.runs))


def _run(options: argparse.Namespace) -> int:
    from quantbench.cli import bench

    return bench.run(options)


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

    return gate(options)


def _accept(options: argparse.Namespace) -> int:
    from quantbench.cli.gate import accept

    return accept(options)


def _sweep(options: argparse.Namespace) -> int:
    from quantbench.cli.sweep import sweep

    return sweep(options)


def _report(options: argparse.Namespace) -> int:
    from quantbench.cli import bench

    return bench.report(options)


def _measured(options: argparse.Namespace) -> int:
    from quantbench.cli.measured import measured

    file = Path(options.file) if options.file else None
    tables = Path(options.tables) if options.tables else None
    return measured([Path(folder) for folder in options.folders or ["runs"]], file, tables)


def _latency(options: argparse.Namespace) -> int:
    from quantbench.cli import bench

    return bench.latency(options)


def _track(options: argparse.Namespace) -> int:
    from quantbench.cli.track import track

    return track(options)


def _data(options: argparse.Namespace) -> int:
    from quantbench.cli import data

    return data.run(options.action, options.names)


def _onnx(options: argparse.Namespace) -> int:
    from quantbench.cli import onnx

    return onnx.run(options)


def _import(options: argparse.Namespace) -> int:
    from quantbench.cli import imported

    return imported.run(options)


def _new(options: argparse.Namespace) -> int:
    from quantbench.cli.new import new

    return new(options.name, Path.cwd())


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "list": _list,
    "show": _show,
    "run": _run,
    "why": _why,
    "gate": _gate,
    "accept": _accept,
    "sweep": _sweep,
    "report": _report,
    "measured": _measured,
    "latency": _latency,
    "track": _track,
    "data": _data,
    "onnx": _onnx,
    "import": _import,
    "new": _new,
}
