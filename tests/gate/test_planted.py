"""Planted regressions, each through the commands ``run`` and ``gate``: all are caught.

The test images are few, so that a case takes seconds; on the accepted kind of machine no number of
images decides, bits do.
"""

import json
import shutil
from dataclasses import replace
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from quantbench.claims import catalog
from quantbench.cli.main import main
from quantbench.errors import DataMissing
from quantbench.quantization import registry
from quantbench.report import write
from quantbench.runs import ledger, recipe, source_hash
from quantbench.runs.lab import Lab
from quantbench.runs.ledger import Ledger
from quantbench.tasks import images
from tests.gate import planted
from tests.gate.few_images import few_images
from tests.helpers.records import times

IMAGES = 512

CLAIMS = """
paper = "planted"
title = "Planted regressions"

[defaults]
source = "here"
data = "shapes/test"
calib = { data = "shapes/calib", n = 64 }

[models]
resnet8 = { name = "shapes/resnet8" }

[schemes.default]
weights = { range = "mse" }
acts = { symmetric = false, range = "minmax" }

[schemes.integer]
weights = { range = "mse" }
acts = { symmetric = false, range = "minmax" }
placement = "integer"

[sources]
here = { paper = "quantbench", table = "what must hold", reported = "project", status = "read" }

[[claim]]
name = "here-harmless"
kind = "max_drop"
method = "planted"
cells.w8a8 = { resnet8 = 9.0 }
"""

SECOND = """
[[claim]]
name = "here-four"
kind = "max_drop"
method = "planted"
cells.w4a8 = { resnet8 = 60.0 }
"""


class Suite:
    """The commands on these claims, in one folder."""

    def __init__(self, folder, monkeypatch, capsys):
        self.folder, self.patch, self.capsys = folder, monkeypatch, capsys

    def claims(self, text):
        self.patch.setattr(catalog, "_texts", lambda: [("planted.toml", text)])

    def run(self, runs="before"):
        return main(["run", "--runs", runs])

    def accept(self, *words, runs="before"):
        return main(["accept", "--runs", runs, "--baseline", "b.json", *words])

    def gate(self, *words, runs="before"):
        """Exit code and output."""
        self.capsys.readouterr()
        code = main(["gate", "--runs", runs, "--baseline", "b.json", *words])
        return code, self.capsys.readouterr().out


def forget():
    """What is remembered within a process, and would hide a change."""
    images._images.cache_clear()
    recipe._description.cache_clear()
    source_hash.forget()


def prepare(patch, cache):
    """Few images, and the planted method and its claims in place of all others."""
    few_images(patch, cache, IMAGES)
    patch.setattr(write, "_track", lambda *_: "")  # MLflow takes longer than all else
    patch.delenv("PYTEST_XDIST_WORKER", raising=False)  # where pytest-benchmark times nothing
    with_class(patch, "Planted")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with the runs of both claims."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        prepare(patch, folder / "cache")
        patch.setattr(catalog, "_texts", lambda: [("planted.toml", CLAIMS + SECOND)])
        assert main(["run", "--runs", str(folder / "before")]) == 0
    forget()
    return folder


@pytest.fixture
def suite(finished, tmp_path, monkeypatch, capsys):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    prepare(monkeypatch, tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    made = Suite(tmp_path, monkeypatch, capsys)
    made.claims(CLAIMS)
    yield made
    forget()


def with_class(monkeypatch, name):
    """The entry point of the method leads to this class."""
    point = EntryPoint("planted", f"tests.gate.planted:{name}", registry.GROUP)
    for module in (registry, source_hash):
        monkeypatch.setattr(module, "methods", lambda: {"planted": point})
    forget()


@pytest.fixture
def accepted(suite):
    assert suite.accept() == 0
    return suite


def statuses(out):
    """Status of every cell and claim that has a line."""
    return {line.split(": ")[1].split(",")[0] for line in out.splitlines() if ": " in line}


def test_what_did_not_change_passes(accepted):
    code, out = accepted.gate()
    assert code == 0
    assert "cells: 1 identical" in out
    assert "accepted bits" not in out
    assert accepted.run("again") == 0
    assert accepted.gate(runs="again")[0] == 0


@pytest.mark.parametrize("fault", [*planted.FAULTS, "half"])
def test_a_change_of_the_code_is_caught(accepted, monkeypatch, fault):
    monkeypatch.setattr(planted, "FAULT", fault)
    accepted.run("after")
    code, out = accepted.gate(runs="after")
    assert code == 1
    assert "moved" in statuses(out)


@pytest.mark.parametrize(("fault", "run"), [("crash", 2), ("unsupported", 1)])
def test_a_cell_that_does_not_finish_is_caught(suite, monkeypatch, fault, run):
    """Of two; the other one is identical."""
    suite.claims(CLAIMS + SECOND)
    assert suite.accept() == 0
    monkeypatch.setattr(planted, "FAULT", fault)
    assert suite.run("after") == run
    code, out = suite.gate(runs="after")
    assert code == 1
    assert "missing" in statuses(out)
    assert "cells: 1 identical, 1 missing" in out


def test_on_another_kind_of_machine_statistics_decide(accepted, monkeypatch):
    monkeypatch.setattr(ledger, "machine_kind", lambda _device: "another kind")
    assert accepted.run("elsewhere") == 0
    code, out = accepted.gate(runs="elsewhere")
    assert code == 0
    assert "cells: 1 unchanged" in out
    assert "finds losses from" in out
    assert "1 cells have no accepted bits" in out
    monkeypatch.setattr(planted, "FAULT", "layer cleared")
    accepted.run("broken")
    code, out = accepted.gate(runs="broken")
    assert code == 1
    assert "loss" in statuses(out)


def test_a_changed_default_is_caught(accepted, monkeypatch):
    with_class(monkeypatch, "Later")
    # descriptions of methods are kept by their source, which is one file for both classes
    monkeypatch.setenv("QUANTBENCH_CACHE", str(accepted.folder / "another cache"))
    assert accepted.run("after") == 0
    code, out = accepted.gate(runs="after")
    assert code == 1
    assert "changed default" in statuses(out)
    assert "method.batch_size: 64 -> 32" in out
    assert accepted.accept(runs="after") == 2  # needs a reason
    assert accepted.accept("--why", "half the memory", runs="after") == 0
    assert accepted.gate(runs="after")[0] == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('tol = 5.0\ntol_why = "planted"', "tol 0.0 -> 5.0"),
        ("hours = 3", "hours absent -> 3.0"),
        ("long = true", "long absent -> True"),
    ],
)
def test_a_claim_that_passes_more_easily_or_runs_no_more_is_caught(suite, line, said):
    suite.claims(CLAIMS + SECOND)
    assert suite.accept() == 0
    suite.claims(CLAIMS + SECOND.replace('name = "here-four"', f'name = "here-four"\n{line}'))
    code, out = suite.gate()
    assert code == 1
    assert f"here-four: retargeted, {said}" in out


def test_an_easier_limit_is_caught(accepted):
    accepted.claims(CLAIMS.replace("resnet8 = 9.0", "resnet8 = 90.0"))
    code, out = accepted.gate()
    assert code == 1
    assert "retargeted, value 9.0 -> 90.0" in out
    assert accepted.accept() == 2
    assert accepted.accept("--why", "the claim was mistyped") == 0
    assert accepted.gate()[0] == 0
    held = json.loads((accepted.folder / "b.json").read_text())["claims"]
    assert [claim["why"] for claim in held.values()] == ["the claim was mistyped"]


def test_a_removed_claim_is_caught_and_so_is_its_orphaned_cell(suite):
    suite.claims(CLAIMS + SECOND)
    assert suite.accept() == 0
    suite.claims(CLAIMS)
    code, out = suite.gate()
    assert code == 1
    assert {"claim removed", "orphaned"} <= statuses(out)
    assert suite.accept("--forget") == 2
    assert suite.accept("--forget", "--why", "four bits are no use") == 0
    assert suite.gate()[0] == 0


def test_a_claim_that_nobody_accepted_is_caught(accepted):
    accepted.claims(CLAIMS + SECOND)
    code, out = accepted.gate()
    assert code == 1
    assert {"new", "new claim"} <= statuses(out)


def test_a_crash_is_annotated_where_no_verdict_is(suite, monkeypatch):
    suite.claims(CLAIMS + SECOND)
    monkeypatch.setattr(planted, "FAULT", "crash")
    suite.capsys.readouterr()
    assert main(["run", "--runs", "after", "--github"]) == 2
    assert "::error title=crashed%3A test_claim[planted/" in suite.capsys.readouterr().out


def test_a_missed_claim_is_not_hidden_by_identical_cells(suite):
    suite.claims(CLAIMS.replace("cells.w8a8 =", "cells.w2 ="))
    assert suite.run() == 1
    assert suite.accept() == 0
    code, out = suite.gate()
    assert code == 1
    assert "cells: 1 identical" in out
    assert "missed, MISSED" in out


def test_what_is_undecided_alone_is_status_3_and_hides_no_regression(suite, monkeypatch):
    """The limit is what was measured: the interval lies on both sides of it."""
    ledger_ = Ledger(suite.folder / "before" / "cells")
    (drop,) = (r.result.drop for r in ledger_.stored() if "/w4a8/planted/" in r.id)
    suite.claims(CLAIMS + SECOND.replace("60.0", f"{drop:.2f}"))
    assert suite.run() == 3
    assert suite.accept() == 0
    code, out = suite.gate()
    assert code == 3
    assert "claims: 1 undecided" in out
    monkeypatch.setattr(planted, "FAULT", "rounded down")
    suite.run("after")
    assert suite.gate(runs="after")[0] == 1


def test_a_kernel_15_percent_slower_is_caught(suite, monkeypatch):
    """Times as a busy machine shows them: both networks slow down together, noise of 3 %."""
    suite.claims(CLAIMS.replace("cells.w8a8 =", "cells.w8a8-integer ="))
    put, speed, rng = Ledger.put, [0.1], np.random.default_rng(0)

    def timed(self, cell, result, made=None):
        rows = tuple(times(row.backend, row.batch, speed[0], rng) for row in result.latency)
        return put(self, cell, replace(result, latency=rows), made)

    monkeypatch.setattr(ledger.Ledger, "put", timed)
    assert suite.run() == 0
    assert suite.accept() == 0
    assert suite.run("again") == 0
    assert suite.gate(runs="again")[0] == 0
    speed[0] = 0.115
    assert suite.run("after") == 0
    code, out = suite.gate(runs="after")
    assert code == 1
    assert "slower" in statuses(out)
    # a baseline that machines share holds no times, and the gate says that it did not look at any
    assert suite.accept("--no-latency") == 0
    code, out = suite.gate(runs="after")
    assert code == 0
    assert "latencies did not gate: none is accepted of this machine" in out


@pytest.fixture
def nothing_here(accepted, monkeypatch):
    """The commands where no data are."""
    monkeypatch.setenv("QUANTBENCH_DATA", str(accepted.folder / "nothing"))
    monkeypatch.setattr("quantbench.data.roots.clone_root", lambda: accepted.folder)
    forget()
    return accepted


def test_where_no_data_are_the_gate_says_so_and_is_not_clean(nothing_here):
    nothing_here.capsys.readouterr()
    assert main(["gate", "--runs", "before", "--baseline", "b.json"]) == 2
    said = nothing_here.capsys.readouterr()
    assert statuses(said.out) == {"not here", "1 not here"}
    assert "nothing was compared" in said.err
    assert "quantbench data pull" in said.err


def test_where_no_data_are_a_run_says_so_and_is_not_clean(nothing_here):
    nothing_here.capsys.readouterr()
    assert main(["run", "--runs", "after", "--github"]) == 2
    out = nothing_here.capsys.readouterr().out
    assert "quantbench: nothing was judged: no claim that was asked for has its data here" in out
    assert "::error title=no data%3A all claims::nothing was judged" in out


def test_what_is_skipped_for_another_reason_is_as_clean_as_before(accepted):
    accepted.claims(CLAIMS.replace("[[claim]]", "[[claim]]\nhours = 3"))
    assert accepted.run("after") == 0


def test_data_that_are_not_here_do_not_fail_where_others_were_compared(suite, monkeypatch):
    suite.claims(CLAIMS + SECOND)
    assert suite.accept() == 0
    cells = Lab.cells

    def some(lab, claim):
        if claim.id.endswith("here-four"):
            raise DataMissing("shapes/test", "quantbench data pull")
        return cells(lab, claim)

    monkeypatch.setattr(Lab, "cells", some)
    assert suite.run() == 0
    code, out = suite.gate()
    assert code == 0
    assert "cells: 1 identical, 1 not here" in out


def test_a_ci_can_read_what_was_found(accepted, monkeypatch):
    monkeypatch.setattr(planted, "FAULT", "half")
    wanted = ("--github", "--junit", "out/junit.xml", "--summary", "summary.md")
    assert main(["run", "--runs", "after", *wanted]) == 0
    assert "planted/shapes/resnet8" in (accepted.folder / "out" / "junit.xml").read_text()
    assert "1 HOLDS" in (accepted.folder / "summary.md").read_text()
    code, out = accepted.gate(*wanted, runs="after")
    assert code == 1
    assert "::error title=moved%3A shapes/resnet8/w8a8/planted" in out
    assert 'failures="1"' in (accepted.folder / "out" / "junit.xml").read_text()
    assert "1 moved" in (accepted.folder / "summary.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--baseline", "none.json"), "no baseline none.json: quantbench accept"),
        (("--runs", "nowhere", "--baseline", "b.json"), "no finished run"),
    ],
)
def test_bad_input_is_status_2(accepted, words, said):
    accepted.capsys.readouterr()
    assert main(["gate", *words]) == 2
    assert said in accepted.capsys.readouterr().err
