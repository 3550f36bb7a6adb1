"""What the page keeps between reports: bundles, layers and values, never stale or damaged."""

import json
from types import SimpleNamespace

import pytest

from quantbench.errors import DataMissing
from quantbench.quantization.scheme import Grid, Scheme
from quantbench.report.charts.layers import LayerBits
from quantbench.report.page import assets, kept, operations

MODULE = "quantbench.report.page.ranking"


@pytest.fixture(autouse=True)
def _cache(root):
    """Nothing that another test has kept."""


def cached(tmp_path, pattern):
    (path,) = (tmp_path / "cache" / "report").glob(pattern)
    return path


def test_a_value_is_made_once_and_again_when_what_it_depends_on_changes(monkeypatch, tmp_path):
    made = []

    def value():
        made.append(1)
        return [1.5, "x"]

    for _ in range(2):
        assert kept.kept(MODULE, "a", value) == [1.5, "x"]
    assert len(made) == 1
    kept.kept(MODULE, "b", value)
    real, changed = kept.code_digest, "quantbench.evidence.bootstrap"
    monkeypatch.setattr(kept, "code_digest", lambda m: "new" if m == changed else real(m))
    kept.kept(MODULE, "a", value)
    assert len(made) == 3
    for path in (tmp_path / "cache" / "report").glob("ranking-*.json"):
        path.write_text("{")
    kept.kept(MODULE, "a", value)
    assert len(made) == 4


def test_a_damaged_bundle_is_made_again(tmp_path):
    whole = assets.vega()
    assert "vegaEmbed" in whole
    assert "</script" not in whole
    path = cached(tmp_path, "vega-*.js")
    path.write_text(path.read_text()[:-100])
    assert assets.vega() == whole
    assert path.read_text().endswith(whole)


@pytest.fixture
def lab(tmp_path):
    """A lab with one run whose network is here, until it is called for a second time."""
    folder = tmp_path / "quantized" / "key"
    folder.mkdir(parents=True)
    held = {"levels": {"a": list(range(16)), "b": [0, 1, 2]}, "acts": {"a.act": list(range(256))}}
    (folder / "quantized.json").write_text(json.dumps(held))
    infos = [SimpleNamespace(name=n, params=p, macs=m) for n, p, m in (("a", 10, 50), ("b", 30, 5))]
    networks = [SimpleNamespace(layers=infos, edges=("a",))]

    def network(_cell):
        if not networks:
            raise DataMissing("net", "fetch it")
        return networks.pop()

    return SimpleNamespace(runs=tmp_path, network=network)


def cell(key="key", **other):
    about = {"model": "net", "checkpoint": "c", "eval_data": "set", "eval_digest": "e"}
    scheme = Scheme(Grid(4), Grid(6))
    return SimpleNamespace(**{"key": lambda: key, "scheme": scheme, **about, **other})


def test_bits_are_those_of_the_levels_and_sizes_are_kept(lab):
    for _ in range(2):  # the second time the network is not asked for
        layers = operations.layer_bits(lab, cell())
        assert layers == (LayerBits("a", 4, 8, 10, 50), LayerBits("b", 2, 6, 30, 5))
    assert operations.operations(layers) == 50 * 4 * 8 + 5 * 2 * 6
    assert operations.mean_bits(layers) == (10 * 4 + 30 * 2) / 40


def test_a_run_without_its_network_has_no_bits(lab):
    assert operations.layer_bits(lab, cell("another")) == ()
    lab.network(None)  # it is not here any more
    assert operations.layer_bits(lab, cell()) == ()


@pytest.mark.parametrize("name", ["model", "checkpoint", "eval_data", "eval_digest"])
def test_sizes_are_those_of_the_network_and_of_what_it_reads(lab, name):
    assert operations.layer_bits(lab, cell())
    assert operations.layer_bits(lab, cell(**{name: "other"})) == ()  # asked for, and not here


def test_sizes_are_read_anew_from_other_code(lab, monkeypatch):
    assert operations.layer_bits(lab, cell())
    monkeypatch.setattr(operations, "source_hashes", lambda _modules: {"m": "new"})
    assert operations.layer_bits(lab, cell()) == ()
