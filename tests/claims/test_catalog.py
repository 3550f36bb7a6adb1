"""Claims: the published numbers are there, once; a malformed file is refused by its line."""

from __future__ import annotations

import ast
import hashlib
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision

from quantbench import reference
from quantbench.claims import catalog
from quantbench.claims import claim as claim_module
from quantbench.claims import select as selection
from quantbench.data import image_sets
from quantbench.errors import BadInput
from quantbench.models import catalog as models
from quantbench.quantization.registry import make
from quantbench.quantization.scheme import Grid, Scheme
from quantbench.tasks.images import ImageTask
from quantbench.tasks.registry import task

ALL = catalog.read_claims()

# Published numbers by paper: how many were read, how many recalled, and the start of the sha256 of
# their sorted rows. Made from an independent table of the same numbers: a typing error, a lost row
# or a doubled one changes the digest.
PUBLISHED = {
    "adalog": (6, 0, "d6be592d43b38945"),
    "adaquant": (79, 19, "94509ac3852b14ea"),
    "adaround": (119, 3, "cd02fd2a6758d9f6"),
    "apot": (41, 20, "ed23f8f6c992411e"),
    "bias": (6, 0, "29d3128fd319ee8a"),
    "brecq": (35, 95, "5c0dac08420d55fd"),
    "dfq": (5, 0, "5adb7168188f93d1"),
    "gptq": (11, 0, "b83dc26c56728fca"),
    "hawq": (12, 0, "6c948debb1885b72"),
    "lsq": (2, 6, "89d2370c9efe55d1"),
    "mqbench": (71, 0, "9e1ba5ce20d56be9"),
    "mrecg": (24, 0, "70e8ab07866f52a8"),
    "nwq": (1, 0, "b7c762a46f15fe47"),
    "obq": (13, 0, "7860197537fbf37b"),
    "pdquant": (25, 0, "bdc501d801bd8098"),
    "qdrop": (30, 0, "2f4d1c029a4b88ad"),
    "smoothquant": (2, 0, "f12f7fe8b30dd89d"),
    "zeroq": (4, 0, "61d94133f7023b9e"),
}
METHODS = {
    "nearest",
    "adaround",
    "adaquant",
    "adaquant-advanced",
    "adaquant-light",
    "brecq",
    "brecq-mixed",
    "distill",
    "qdrop",
    "qubo",
    "rounding",
    "gramround",
    "apot",
    "ibc",
    "bft",
    "bias_correction",
    "bn-tuning",
    "bias-tuning",
    "analytic_bc",
    "bn_ranges",
    "absorb_bias",
    "dead_channels",
    "equalize",
    "factorize",
    "dfq",
}


FIRST_OF_COCO = ("coco/first128", "coco/first128_calib", "coco/first128_eval")


def published(claim: claim_module.Claim) -> str:
    """One row: model, bits, number, upper end, sd, full precision, metric, status."""
    _, _, alias, cell, _ = claim.id.split("/")
    bits = "mixed" if "mixed" in cell else cell.split("-")[0]
    numbers = (
        "" if x is None else f"{x:g}" for x in (claim.value, claim.value_to, claim.sd, claim.fp)
    )
    # the independent table knows two kinds: what a summary retells stands there as read
    status = "recalled" if claim.source.status == "recalled" else "read"
    return "|".join((alias.split("-")[0], bits, *numbers, claim.metric, status))


def test_every_published_number_is_there_once() -> None:
    rows = defaultdict(list)
    for claim in ALL:
        if claim.paper != "fp" and not claim.id.rsplit("/", 1)[1].startswith(
            ("here-", "released-")
        ):
            rows[claim.paper].append(published(claim))
    found = {}
    for paper, lines in rows.items():
        recalled = sum(line.endswith("recalled") for line in lines)
        digest = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]
        found[paper] = (len(lines) - recalled, recalled, digest)
    assert found == PUBLISHED
    assert sum(read + recalled for read, recalled, _ in found.values()) == 629


def test_ids_are_unique_and_start_with_the_paper() -> None:
    assert len({c.id for c in ALL}) == len(ALL)
    assert all(c.id.startswith(f"{c.paper}/") for c in ALL)


def test_recalled_second_hand_and_third_party_numbers_never_gate() -> None:
    for claim in ALL:
        if (
            claim.source.status != "read"
            or claim.source.reported == "third-party"
            or claim.kind == "order"
        ):
            assert not claim.gates, claim.id
        if claim.tol or claim.fp_tol:
            assert claim.tol_why, claim.id


@pytest.mark.slow
def test_what_can_run_names_models_methods_and_data_that_exist() -> None:
    for claim in ALL:
        if not claim.skip:
            if isinstance(task(claim.model, claim.data), ImageTask):
                models.spec(claim.model)
            assert set(claim.method.split("+")) <= METHODS | {""}, claim.id
            if claim.method:
                make(claim.method, dict(claim.fields))  # its hyperparameters exist, too
            if claim.tier == "real":
                texts = ("stsb/train", "stsb/test", "wikitext2/valid", "wikitext2/test_128")
                sets = {*image_sets.SETS, *texts, *FIRST_OF_COCO}
                assert {claim.data, *([claim.calib.data] if claim.calib else [])} <= sets, claim.id


@pytest.mark.parametrize(
    ("name", "kind", "value", "tier"),
    [
        ("fp/cifar10/resnet20/fp/measured", "fp", 91.73, "real"),
        ("fp/cifar10/resnet56/fp/measured", "fp", 93.39, "real"),
        ("fp/imagenet/googlenet-bvlc/fp/measured", "fp", 79.92, "real"),
        ("fp/imagenet/mobilenetv1-025/fp/measured", "fp", 65.46, "real"),
        ("fp/imagenet/mobilenetv1-100/fp/measured", "fp", 79.69, "real"),
        ("fp/imagenet/mobilenetv2-100/fp/measured", "fp", 80.23, "real"),
        ("fp/imagenet/efficientnet-lite0/fp/measured", "fp", 83.4, "real"),
        ("fp/imagenet/mobilenetv2-100/fp/published", "fp", 71.8, "online"),
        ("fp/imagenet/efficientnet-lite0/fp/published", "fp", 75.1, "online"),
        ("adaround/cifar10/resnet20/w4/here-w4", "max_drop", 1.0, "real"),
        ("adaround/cifar10/resnet20/w4-channel/here-w4", "max_drop", 1.0, "real"),
        ("adaround/cifar10/resnet20/w3/here-beats-nearest", "beats", None, "real"),
        ("adaround/imagenet/googlenet-bvlc/w4/here-beats-nearest", "beats", None, "real"),
        ("adaround/shapes/mobilenet/w4/here-beats-nearest", "beats", None, "embedded"),
        ("adaround/imagenet/resnet18/w4/t7-adaround", "value", 68.71, "online"),
        ("fp/cifar10/resnet20/fp/published", "fp", 91.73, "real"),
    ],
)
def test_what_must_hold_is_claimed(name: str, kind: str, value: float | None, tier: str) -> None:
    claim = catalog.find(ALL, name)
    assert (claim.kind, claim.value, claim.tier, claim.gates) == (kind, value, tier, True)


def test_only_networks_that_are_known_to_be_the_authors_can_reproduce() -> None:
    """Torchvision's are their own publisher's, for their own accuracy; not those of any paper."""
    theirs = {(c.model, c.kind) for c in ALL if c.checkpoint == "authors"}
    elsewhere = {model for model, _ in theirs if not model.startswith(("torchvision/", "coco/"))}
    assert elsewhere == {
        *("cifar10/resnet20", "cifar10/resnet56", "cifar10/resnet20-apot", "cifar10/resnet56-apot"),
        *("imagenet/googlenet-bvlc", "imagenet/mobilenetv1-0.25", "imagenet/mobilenetv1-1.0"),
        *("imagenet/mobilenetv2-1.0", "imagenet/efficientnet-lite0", "stsb/minilm"),
        "voc/deeplabv3-mobilenetv2",
    }
    assert {kind for model, kind in theirs if model not in elsewhere} == {"fp"}
    quantized = {c.model for c in ALL if c.checkpoint == "quantized"}
    assert quantized == {f"cifar10/resnet20-apot-w{b}a{b}" for b in (2, 3, 4)}
    slim = catalog.find(ALL, "fp/imagenet/mobilenetv1-025/fp/published")
    assert slim.checkpoint == "other"  # Keras's weights, TensorFlow-slim's accuracy


def test_a_claim_says_everything_about_itself() -> None:
    claim = catalog.find(ALL, "imagenet/resnet18/w4/t7-adaround")
    assert claim.drop == pytest.approx(0.97)
    assert claim.asks == "published 68.71 (0.97)"
    assert dict(claim.fields) == {"iterations": 20000}
    text = claim.describe()
    for part in (
        "adaround(iterations=20000)",
        "sd 0.06 over 5 runs",
        "2048 of imagenet/train",
        "Table 7",
        "per tensor",
    ):
        assert part in text
    rival = catalog.find(ALL, "adaround/cifar10/resnet20/w3-channel/here-beats-nearest")
    assert rival.rival == claim_module.Rival("nearest", (), Scheme(Grid(3, per_channel=True), None))
    assert "below nearest" in rival.describe()


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2"])
def test_published_allocations_have_the_claimed_layers_and_sizes(name: str) -> None:
    text = (
        Path(reference.__file__).parent / "calibtip" / f"configs_{name.replace('_', '')}.txt"
    ).read_text()
    with torch.device("meta"):
        net = torchvision.models.get_model(name)
    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    sizes = {key: m.weight.numel() for key, m in net.named_modules() if isinstance(m, kinds)}
    for line in text.splitlines()[1:]:
        limit, int4 = line.split(maxsplit=1)
        layers = ast.literal_eval(int4)
        cell = f"adaquant/calibtip/{name}-calibtip/w8a8-mixed"
        assert catalog.find(ALL, f"{cell}/layers-{float(limit):.2f}").value == len(layers)
        fraction = sum(n * (4 if key in layers else 8) for key, n in sizes.items()) / (
            32 * sum(sizes.values())
        )
        claimed = catalog.find(ALL, f"{cell}/size-{float(limit):.2f}").value
        assert fraction == pytest.approx(claimed, abs=5e-5)  # published to four decimals


def test_loading_needs_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; from quantbench.claims import catalog; catalog.read_claims(); "
        "print({'torch', 'numpy'} & set(sys.modules))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "set()\n"
    )


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(BadInput, match=r"adaruond.*did you mean adaround"):
        catalog.read_claims("adaruond")
    with pytest.raises(BadInput, match=r"did you mean.*t7-adaround"):
        catalog.find(ALL, "adaround/imagenet/resnet18/w4/t7-adaruond")
    with pytest.raises(BadInput, match=r"the end of \d+ ids"):
        catalog.find(ALL, "here-beats-nearest")
    assert {c.paper for c in catalog.read_claims("qdrop")} == {"qdrop"}


STRANGERS = """\
paper = "p"
title = "A Paper"
[models]
r20 = { name = "cifar10/resnet20", data = "cifar10/test", fp = 91.5 }
[schemes.default]
weights = { range = "mse" }
[sources]
t1 = { reported = "authors", status = "read" }
[[claim]]
name = "a"
source = "t1"
method = "nearest"
cells.w4 = { r20 = 90.5 }
"""


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of somebody else that brings claims, installed."""
    package = tmp_path / "strangers_claims"
    package.mkdir()
    (package / "__init__.py").write_text("")
    info = tmp_path / "strangers_claims-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers-claims\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[quantbench.reference]\nstranger = strangers_claims\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "strangers_claims", raising=False)
    return package


def test_another_package_brings_claims(stranger: Path) -> None:
    (stranger / "p.toml").write_text(STRANGERS)
    assert [c.id for c in catalog.read_claims("p")] == ["p/cifar10/r20/w4/a"]
    assert len(catalog.read_claims()) == len(ALL) + 1


def test_an_id_used_twice_names_both_places(stranger: Path) -> None:
    (stranger / "p.toml").write_text(STRANGERS)
    (stranger / "q.toml").write_text(STRANGERS)
    with pytest.raises(
        BadInput, match=r"q\.toml:9: p/cifar10/r20/w4/a is already the id of .*p\.toml:9"
    ):
        catalog.read_claims()


def test_a_broken_package_is_named(stranger: Path) -> None:
    (stranger / "p.toml").write_bytes(b"paper = \xff")
    with pytest.raises(BadInput, match=r"p\.toml: cannot be read as UTF-8"):
        catalog.read_claims()
    (stranger.parent / "strangers_claims-1.0.dist-info" / "entry_points.txt").write_text(
        "[quantbench.reference]\nstranger = no_such_package_here\n"
    )
    with pytest.raises(BadInput, match=r"'stranger'.*no_such_package_here cannot be imported"):
        catalog.read_claims()


@pytest.mark.parametrize(
    ("asked", "runs"), [({}, False), ({"tier": "long"}, True), ({"expression": "w3"}, True)]
)
def test_long_claims_run_only_when_asked_for(monkeypatch, asked, runs):
    here = next(c for c in ALL if c.tier == "embedded" and not c.skip)
    monkeypatch.setattr(selection, "chosen", lambda *_: (replace(here, long=True),))
    (claim,) = selection.asked_for(**asked)
    assert claim.tier == "long"
    assert (claim.skip == "") == runs
    assert runs or "--tier long" in claim.skip


def test_what_takes_hours_runs_only_when_as_many_are_allowed(monkeypatch):
    here = next(c for c in ALL if c.tier == "real" and not c.skip)
    monkeypatch.setattr(selection, "chosen", lambda *_: (replace(here, hours=13.0),))
    for asked in ({}, {"tier": "real"}, {"expression": here.id}, {"hours": 12.9}):
        (claim,) = selection.asked_for(**asked)
        assert claim.skip == f"13 hours: quantbench run --hours 13 -k {here.id}"
    assert selection.asked_for(hours=13.0) == (replace(here, hours=13.0),)
    monkeypatch.setattr(selection, "chosen", lambda *_: (replace(here, hours=13.0, skip="no"),))
    assert selection.asked_for()[0].skip == "no"


def test_what_looks_at_images_says_at_which() -> None:
    """Without a calibration set a row would fail once its data are here."""
    blind = {"nearest", "rounding", "dead_channels", "equalize", "factorize", "dfq"}
    blind |= {"analytic_bc", "absorb_bias", "bn_ranges", "distill"}
    for claim in ALL:
        steps = set(claim.method.split("+")) - {""}
        if not claim.skip and claim.scheme and not claim.calib:
            assert claim.scheme.acts is None, claim.id
            assert steps <= blind, claim.id


def test_trainings_of_days_name_the_command_that_runs_them():
    """APoT takes half a day a stage on CIFAR-10, months on ImageNet; an id finds each."""
    days = [c for c in ALL if c.hours and c.method == "apot"]
    cifar = [c for c in days if c.model.startswith("cifar10/")]
    assert {c.hours for c in cifar} == {13, 25, 38}
    assert not any(dict(c.fields).get("epochs") for c in cifar)
    whole = [c for c in days if c not in cifar]
    assert len(whole) == 26
    assert {dict(c.fields)["train_data"] for c in whole} == {"imagenet/train-whole"}
    assert not any(c.gates for c in whole)
    paper = [c for c in ALL if c.method == "apot" and "epochs" not in dict(c.fields)]
    assert all(c.hours for c in paper if not c.skip)
    for claim in cifar:
        assert selection.select(ALL, claim.id) == (claim,)
    for claim in whole:
        assert claim in selection.select(ALL, claim.id)


def test_a_rival_is_named_by_what_distinguishes_it() -> None:
    by_id = {c.id: c for c in ALL}
    assert by_id["apot/cifar10/resnet20/w3a3/here-trained-against-pot"].asks == (
        "against the same with weights.kind=pot, acts.kind=pot"
    )
    other = by_id["adaquant/stsb/minilm/w4a4-clipped/here-beats-nearest-minmax"]
    assert other.asks == "below nearest with acts.range=minmax"
    assert by_id["adaquant/stsb/minilm/w4a4-clipped/here-beats-nearest"].asks == "below nearest"
