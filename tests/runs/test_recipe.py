"""Methods described without being imported, and a run over finished cells that needs no torch."""

import functools
import json
import subprocess
import sys
import textwrap
from collections import Counter

import numpy as np
import pytest

from quantbench.claims.catalog import read_claims
from quantbench.data.roots import cache_root
from quantbench.errors import BadInput
from quantbench.evidence.result import Latency, Result
from quantbench.quantization.registry import make
from quantbench.runs import recipe
from quantbench.runs.description import describe
from quantbench.runs.lab import Lab
from quantbench.runs.recipe import Recipe
from quantbench.runs.source_hash import forget
from quantbench.runs.timing import BACKENDS, BATCHES
from quantbench.system.machine import fingerprint


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, as another machine has it; ``again()`` is the next process."""
    monkeypatch.setenv("QUANTBENCH_CACHE", str(tmp_path / "cache"))

    def again():
        forget()
        recipe._description.cache_clear()
        recipe._installed.cache_clear()

    again()
    yield again
    again()


def kept():
    return sorted((cache_root() / "methods").glob("*.json"))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("nearest", ()),
        ("adaround", (("iterations", 7), ("lr", 0.5))),
        ("adaquant-light", (("acts", (4, 8)),)),
        ("equalize+nearest", (("equalize.relu6", "clamp"),)),
    ],
)
def test_a_description_is_that_of_the_method_itself(cache, name, options, monkeypatch):
    wanted = describe(make(name, dict(options)))
    assert Recipe(name, options).description() == wanted
    cache()
    monkeypatch.setattr(recipe, "make", None)  # the second time nothing is made
    assert Recipe(name, options).description() == wanted


@pytest.mark.parametrize("what", ["options", "installed", "code"])
def test_whatever_a_description_follows_from_makes_it_anew(cache, monkeypatch, what):
    Recipe("nearest").description()
    cache()
    options = ()
    if what == "options":
        options = (("iterations", 3),)
    elif what == "installed":
        monkeypatch.setattr(recipe, "_installed", functools.cache(lambda: ["another torch"]))
    else:
        real = recipe.source_hashes
        monkeypatch.setattr(recipe, "source_hashes", lambda m: {**real(m), "more": "code"})
    Recipe("adaround" if options else "nearest", options).description()
    assert len(kept()) == 2


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff", b"[]", b'{"plain": 1}'])
def test_a_damaged_description_is_made_again(cache, damage):
    wanted = Recipe("nearest").description()
    (path,) = kept()
    path.write_bytes(damage)
    cache()
    assert Recipe("nearest").description() == wanted
    assert json.loads(path.read_text())["plain"] == wanted.plain


@pytest.mark.usefixtures("cache")
def test_wrong_options_are_refused_and_not_kept():
    with pytest.raises(BadInput, match="did you mean iterations"):
        Recipe("adaround", (("iteration", 3),)).description()
    with pytest.raises(BadInput, match="no method 'adarond'"):
        Recipe("adarond").description()
    assert not kept()


WARM = """
    import sys
    from quantbench.cli.main import main
    words = ["run", "adaround", "-k", "shapes and resnet8", "--tier", "embedded"]
    status = main([*words, "--runs", sys.argv[1]])
    heavy = {"torch", "torchvision", "transformers", "mlflow"} & sys.modules.keys()
    sys.exit(f"imported {heavy}" if heavy else status)
"""


def finish(lab, claim):
    """Results of a claim's cells, the rival's worse, with the latency rows of this machine."""
    right, wrong = np.ones(1000, bool), np.arange(1000) % 4 > 0
    rows = [
        Latency(backend, batch, fingerprint(), (1.0,), (3.0,))
        for backend in BACKENDS
        for batch in BATCHES
    ]
    for cells, scores in zip(lab.cells(claim), (right, wrong), strict=True):
        for cell in cells.values():
            lab.ledger.put(
                cell, Result.of(right, scores, "digest", size_bytes=1, latency=tuple(rows))
            )


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
def test_a_run_over_finished_cells_imports_no_torch(tmp_path):
    """Claims with a rival and on integers, judged and reported in a process of its own."""
    runs = tmp_path / "runs"
    lab, claims = Lab(runs), [c for c in read_claims("adaround") if not c.skip]
    ours = [c for c in claims if c.model == "shapes/resnet8" and c.tier == "embedded"]
    assert {c.kind for c in ours} == {"beats", "max_drop"}
    for claim in ours:
        finish(lab, claim)
    (runs / "mlflow.db").touch()  # everything is uploaded
    uploaded = {s.key: s.digest for s in lab.ledger.stored()}
    (runs / "mlflow.uploaded.json").write_text(json.dumps(uploaded))
    command = [sys.executable, "-c", textwrap.dedent(WARM), str(runs)]
    # The first describes the methods, as it finds them: other tests may have put folders on this
    # process's path.
    subprocess.run(command, check=False, capture_output=True)
    warm = subprocess.run(command, check=False, capture_output=True, text=True)
    assert warm.returncode == 0, warm.stdout + warm.stderr
    count = Counter(claim.kind for claim in ours)
    assert f"{count['max_drop']} HOLDS, {count['beats']} AHEAD" in warm.stdout
