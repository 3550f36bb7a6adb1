"""Everything that reads a file or a word which anyone may have written, with files that are right.

A loader gives an object or an error of the project, whatever the bytes. It has no other error, it
ends, and it writes nothing.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from quantbench.network.network import Network
from tests.helpers.saved import SCHEME, network
from tests.reliability.corpus import cells, programs
from tests.reliability.fuzz import seeds, states


@dataclass(frozen=True)
class Loader:
    """One of them.

    Attributes:
        name: of what it reads.
        file: how the file is called that the bytes are written to, below a folder of their own.
        seeds: files that are right, or nearly so.
        load: reads the file.
        text: whether the file is JSON, whose values can be changed one by one.
        code: whose coverage leads the fuzzer; all of it slows a loader down that traces a network.

    """

    name: str
    file: str
    seeds: Callable[[], tuple[bytes, ...]]
    load: Callable[[Path], object]
    text: bool = False
    code: str = "quantbench"


def _claims(path: Path) -> object:
    from quantbench.claims.parse import parse

    return parse(path.read_bytes().decode("utf-8", "replace"), path.name)


def _words(path: Path) -> object:
    """A word of the command line, and a name of qb.scheme."""
    from quantbench.claims.schemes import scheme
    from quantbench.errors import BadInput
    from quantbench.quantization.presets import scheme as named
    from quantbench.sweeps.read import SCHEMES

    word = path.read_bytes().decode("utf-8", "replace")
    with suppress(BadInput):
        named(word)
    return scheme(word, SCHEMES)


def _sweep(path: Path) -> object:
    from quantbench.sweeps.read import from_file

    return list(from_file(path).jobs())


def _checkpoint(path: Path) -> object:
    from quantbench.models.catalog import spec
    from quantbench.models.checkpoint import checkpoint
    from quantbench.models.loading import from_tensors

    os.environ["QUANTBENCH_DATA"] = str(path.parents[1])
    return from_tensors(spec("shapes/resnet8"), checkpoint(path.stem))


def _pickle(path: Path) -> object:
    from quantbench.data import torch_file

    return torch_file.read(path)


def _program(path: Path) -> object:
    from quantbench.integer import store

    return store.load(path)


@functools.cache
def _network() -> Network:
    return network(programs.SAVED)[0]


def _quantized(path: Path) -> object:
    """The folder of a saved network, in which one of two files is another."""
    import quantbench as qb

    for name in ("quantized.json", "quantized.safetensors"):
        if not (path.parent / name).exists():
            shutil.copy(programs.SAVED / name, path.parent)
    return qb.load(path.parent, _network(), SCHEME)


def _onnx(path: Path) -> object:
    from quantbench.integer.qdq.read import read

    return read(path)


def _baseline(path: Path) -> object:
    from quantbench.gate.baseline import Baseline

    return Baseline.read(path)


def _cell(path: Path) -> object:
    """As it is, and with the checksum and the key that its contents have."""
    from quantbench.runs.cell import key_of
    from quantbench.runs.ledger import Ledger

    ledger = Ledger(path.parent, lambda _: None)
    content = path.read_bytes()
    found = list(ledger.stored())
    try:
        record = json.loads(content)
        record["key"] = key_of(record["cell"])
        signed = cells.signed(record)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return found
    (path.parent / f"{record['key']}.json").write_text(signed)
    return [found, *ledger.stored()]


def _latency(path: Path) -> object:
    from quantbench.latency.table import Table, lines

    return lines(Table.load(path))


def _manifest(path: Path) -> object:
    from quantbench.data.dvc import make_remote

    return make_remote(path.parent, clone=path.parent)


def _tar(path: Path) -> object:
    from quantbench.data.archives import members

    return sum(len(content) for _, content in members(path))


def _zip(path: Path) -> object:
    from quantbench.data.content_digest import digest
    from quantbench.data.sources.convert_data import unzip_json
    from quantbench.errors import DataCorrupt

    with suppress(DataCorrupt):
        unzip_json(lambda *_: [path], path.with_suffix(".gz"), "")
    return digest(path)


def _comparison(path: Path) -> object:
    from quantbench.comparison.table import Comparison

    found = Comparison.load(path)
    return str(found).encode(), found._repr_html_().encode()


def _scores(path: Path) -> object:
    from quantbench.comparison.scores import read_scores

    return read_scores(path).bits()


def _measured(path: Path) -> object:
    from quantbench.report.measured.document import counts, read

    return counts(read(path))


_QUANTIZED = "saved/quantized"

_STATES = "quantbench.system.state_file"

LOADERS = (
    Loader("claims", "mine.toml", seeds.of_claims, _claims),
    Loader("words of schemes", "word", seeds.of_words, _words),
    Loader("sweeps", "sweep.toml", seeds.of_sweeps, _sweep),
    Loader("safetensors", "checkpoints/a.safetensors", seeds.of_checkpoints, _checkpoint),
    Loader("files of torch.save", "a.pth", seeds.of_pickles, _pickle),
    Loader("integer programs", "p.safetensors", seeds.saved("program.safetensors"), _program),
    Loader(
        "quantized.json",
        f"{_QUANTIZED}.json",
        seeds.saved("quantized.json"),
        _quantized,
        text=True,
        code="quantbench.quantization.serialize",
    ),
    Loader(
        "quantized tensors",
        f"{_QUANTIZED}.safetensors",
        seeds.saved("quantized.safetensors"),
        _quantized,
        code="quantbench.quantization.serialize",
    ),
    Loader("ONNX", "a.onnx", seeds.of_onnx, _onnx),
    Loader("baselines", "b.json", seeds.of_baselines, _baseline, text=True),
    Loader("cells", "cells/a.json", seeds.of_cells, _cell, text=True),
    Loader("latency tables", "t.json", seeds.of_latencies, _latency, text=True),
    Loader("comparisons", "c.json", seeds.of_comparisons, _comparison, text=True),
    Loader("scores of other tools", "s.csv", seeds.of_scores, _scores),
    Loader("measured.md", "measured.md", seeds.of_measured, _measured),
    Loader("states of steps", "a.part", states.of_steps, states.step, code=_STATES),
    Loader(
        "states of training", "a.safetensors", states.of_trainings, states.training, code=_STATES
    ),
    Loader("data.dvc", "data.dvc", seeds.of_manifests, _manifest),
    Loader(".tar", "a.tar", seeds.of_tars, _tar),
    Loader(".zip", "a.zip", seeds.of_zips, _zip),
)
