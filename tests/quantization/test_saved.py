"""Folders that other versions saved: they open, or say who wrote them."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import quantbench as qb
from quantbench.errors import BadInput
from quantbench.integer import store
from quantbench.integer.simulate import Simulation
from quantbench.network.modules import ChannelClamp
from quantbench.quantization.saved_by import differences
from quantbench.quantization.scheme import Scheme
from tests.helpers.saved import SCHEME, network

SAVED = sorted(p for p in (Path(__file__).parent / "saved").iterdir() if p.is_dir())


@pytest.mark.parametrize("folder", SAVED, ids=lambda p: p.name)
def test_what_a_version_wrote_opens_in_this_one(folder):
    net, images = network(folder)
    q = qb.load(folder, net, SCHEME)
    assert q.digest == json.loads((folder / "quantized.json").read_text())["digest"]
    assert [m for m in q.model.modules() if isinstance(m, ChannelClamp)]  # what a step rewrote
    logits = load_file(folder / "network.safetensors")["logits"]
    assert torch.equal(Simulation(qb.lower(q))(images), logits)


@pytest.mark.parametrize("folder", SAVED, ids=lambda p: p.name)
def test_so_does_its_integer_program(folder):
    held = load_file(folder / "network.safetensors")
    program = store.load(folder / "program.safetensors")
    assert torch.equal(Simulation(program)(held["images"]), held["logits"])


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(SAVED[-1], tmp_path / "saved")
    return tmp_path / "saved"


def changed(folder, **values):
    """The JSON of a folder with other values; None takes one away."""
    path = folder / "quantized.json"
    about = json.loads(path.read_text()) | values
    path.write_text(json.dumps({k: v for k, v in about.items() if v is not None}))


def refused(folder, match, scheme=SCHEME):
    net, _ = network(folder)
    with pytest.raises(BadInput, match=match):
        qb.load(folder, net, scheme)


def test_a_format_of_the_future_names_both_versions(folder):
    changed(folder, format=2, version="3.0.0")
    here = qb.__version__.replace(".", r"\.")
    refused(folder, rf"written by quantbench 3\.0\.0 in format 2; this is quantbench {here}")


def test_a_folder_without_a_format_is_the_first(folder):
    changed(folder, format=None)
    net, _ = network(folder)
    qb.load(folder, net, SCHEME)


def test_before_digests_were_kept_it_says_so(folder):
    changed(folder, network_digest=None, version=None)
    refused(folder, r"written by quantbench before 0\.1, which did not keep the digest")


def test_other_quantizers_of_another_version_are_told_with_both(folder):
    """Names of modules and quantizers belong to the version that placed them."""
    about = json.loads((folder / "quantized.json").read_text())
    acts = {f"old.{k}": v for k, v in about["acts"].items()}
    changed(folder, acts=acts, version="0.0.9")
    refused(folder, rf"not a saved quantized network.*quantbench 0\.0\.9, this is {qb.__version__}")


def test_a_field_of_the_scheme_that_this_version_does_not_know(folder):
    about = json.loads((folder / "quantized.json").read_text())
    changed(folder, scheme=about["scheme"] | {"sparsity": 0.5}, version="9.9")
    refused(folder, r"another scheme .*sparsity 0\.5, not None; written by quantbench 9\.9")


def test_fields_that_an_older_version_did_not_know_have_their_defaults(folder):
    about = json.loads((folder / "quantized.json").read_text())
    old = {k: v for k, v in about["scheme"].items() if k not in ("edge_acts", "which")}
    old["weights"] = {k: v for k, v in old["weights"].items() if k != "kind"}
    changed(folder, scheme=old)
    net, _ = network(folder)
    assert qb.load(folder, net, SCHEME).scheme == SCHEME
    refused(folder, r"which 'all', not 'first'", replace(SCHEME, which="first"))


def test_a_scheme_with_a_field_more_reads_what_it_saved_before(folder):
    """As a later version would."""

    @dataclass(frozen=True)
    class Later(Scheme):
        sparsity: float = 0.0

    saved = json.loads((folder / "quantized.json").read_text())["scheme"]
    later = Later(**{k: getattr(SCHEME, k) for k in vars(SCHEME)})
    assert differences(saved, later) == []
    assert differences(saved, replace(later, sparsity=0.5)) == ["sparsity 0.0, not 0.5"]


@pytest.mark.parametrize("text", ["[]", "3", "null", '{"network_digest": 4}', ""])
def test_a_json_of_something_else_is_no_network(folder, text):
    (folder / "quantized.json").write_text(text)
    refused(folder, "saved")


def test_a_program_of_the_future_names_both_versions(folder, tmp_path):
    from safetensors.numpy import load_file as load
    from safetensors.numpy import save_file as save

    tensors = load(folder / "program.safetensors")
    _, meta = store.serialized(store.load(folder / "program.safetensors"))
    head = {"quantbench": json.dumps({**meta, "version": 9, "suite": "4.0"})}
    save(tensors, tmp_path / "later.safetensors", head)
    here = qb.__version__.replace(".", r"\.")
    with pytest.raises(BadInput, match=rf"version 9; .*quantbench 4\.0, this is {here}"):
        store.load(tmp_path / "later.safetensors")
