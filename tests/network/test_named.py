"""Networks by name, from folders and caches; what is missing is named with its command."""

from __future__ import annotations

import hashlib
from enum import Enum
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertModel,
    ViTConfig,
    ViTForImageClassification,
)

import quantbench as qb
from quantbench.errors import BadInput, DataCorrupt, DataMissing
from quantbench.integer.lowering.lower import executable
from quantbench.models.bert import Encoder, encoder_network
from quantbench.network.sources.found import made
from tests.network.test_any_network import INTEGER, WEIGHTS, off
from tests.network.whole_way import whole_way


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_random_weights_follow_from_the_generator() -> None:
    x, state = torch.rand(2, 3, 64, 64), torch.get_rng_state()
    one, same, other = (
        qb.network("torchvision/resnet18", x, generator=seeded(s)) for s in (0, 0, 1)
    )
    assert one.digest == same.digest != other.digest
    assert torch.equal(torch.get_rng_state(), state)
    assert one.blocks[0] == "layer1.0"
    assert one.name == "torchvision/resnet18"


def test_maps_of_a_segmentation_network_are_its_output() -> None:
    name = "torchvision/lraspp_mobilenet_v3_large"
    net = qb.network(name, torch.rand(1, 3, 64, 64), generator=seeded())
    assert net.model(torch.rand(2, 3, 64, 64)).shape == (2, 21, 64, 64)


def test_what_the_boxes_of_a_detector_are_made_of_is_its_output() -> None:
    name, seen = "ssdlite320_mobilenet_v3_large", {}
    given = {"weights": None, "weights_backbone": None, "num_classes": 91}
    detector = made(lambda: torchvision.models.get_model(name, **given), seeded())
    detector.backbone.register_forward_hook(lambda _m, x, _y: seen.update(images=x[0]))
    detector.head.register_forward_hook(lambda _m, _x, y: seen.update(y))
    with torch.no_grad():
        detector([torch.rand(3, 80, 64)])
    small = torch.rand(2, 3, 64, 64)
    for output, expected in ((None, "cls_logits"), (("boxes", 0), "bbox_regression")):
        net = qb.network(f"torchvision/{name}", small, generator=seeded(), output=output)
        torch.testing.assert_close(net.model(seen["images"]), seen[expected], rtol=0.01, atol=1e-3)
    with pytest.raises(BadInput, match=r"it gives dict of scores\.0 .*, boxes\.0 \(2, "):
        qb.network(f"torchvision/{name}", generator=seeded(), output="masks")


def test_weights_of_torchvision_come_from_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = torchvision.models.squeezenet1_1(num_classes=5)
    (tmp_path / "checkpoints").mkdir()
    file = tmp_path / "checkpoints" / "weights.pth"
    torch.save(model.state_dict(), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    right = file.rename(file.with_name(f"squeezenet1_1-{digest[:8]}.pth"))
    about = SimpleNamespace(
        name="MINE",
        url=f"https://example.com/{right.name}",
        transforms=lambda: SimpleNamespace(crop_size=[64]),
        meta={"categories": list("abcde")},
    )

    class Weights(Enum):
        MINE = about

    versions = [w.value for w in Weights]
    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda _: versions)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    net = qb.network("torchvision/squeezenet1_1@MINE")
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(net.model(x), model.eval()(x), rtol=1e-4, atol=1e-4)
    right.write_bytes(right.read_bytes() + b"x")
    with pytest.raises(DataCorrupt, match="has sha256"):
        qb.network("torchvision/squeezenet1_1")
    right.unlink()
    with pytest.raises(DataMissing, match=r"get_model\('squeezenet1_1', weights='MINE'\)"):
        qb.network("torchvision/squeezenet1_1")
    with pytest.raises(BadInput, match=r"no weights 'YOURS' of squeezenet1_1.*MINE"):
        qb.network("torchvision/squeezenet1_1@YOURS")


CONFIG = BertConfig(
    vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
)


def test_a_network_of_transformers_from_a_folder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = BertForSequenceClassification(CONFIG).eval()
    model.save_pretrained(tmp_path)
    net = qb.network(f"transformers/{tmp_path}")
    assert net.blocks == ("bert.encoder.layer.0", "bert.encoder.layer.1")
    ids, mask = torch.randint(1, 50, (3, 7)), torch.ones(3, 7, dtype=torch.long)
    torch.testing.assert_close(net.model(ids, mask), model(ids, mask).logits)
    scheme = qb.Scheme(qb.Grid(8, per_channel=True), qb.Grid(8, symmetric=False))
    q = qb.quantize(qb.method("nearest"), net, {"attention_mask": mask, "input_ids": ids}, scheme)
    found, right = q.fake()(ids, mask), net.model(ids, mask)
    assert (found - right).norm() < 0.05 * right.norm()
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(DataCorrupt, match="header"):
        qb.network(f"transformers/{tmp_path}")


def test_images_for_a_network_of_transformers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 32}
    sizes |= {"num_attention_heads": 2, "image_size": 8, "patch_size": 4, "num_labels": 5}
    model = ViTForImageClassification(ViTConfig(**sizes, initializer_range=0.2)).eval()
    model.save_pretrained(tmp_path)
    name, x = f"transformers/{tmp_path}", torch.rand(16, 3, 8, 8)
    net, right = qb.network(name), model(x).logits.detach()
    torch.testing.assert_close(net.model(x), right, rtol=1e-4, atol=1e-5)
    for scheme in (WEIGHTS, INTEGER):
        q = qb.quantize(qb.method("nearest"), net, x, scheme)
        assert off(q.fake()(x), right) < 0.05
        whole_way(q, qb.network(name), x, folder=tmp_path / str(scheme))
    assert off(executable(q)(x), right) < 0.05


def test_of_two_answers_the_user_names_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = BertForQuestionAnswering(CONFIG).eval()
    model.save_pretrained(tmp_path)
    name, ids = f"transformers/{tmp_path}", torch.randint(1, 50, (3, 7))
    told = r"start_logits \(2, 16\), end_logits \(2, 16\), not a tensor: say which with output="
    with pytest.raises(BadInput, match=told):
        qb.network(name)
    net = qb.network(name, output="end_logits")
    torch.testing.assert_close(net.model(ids, torch.ones_like(ids)), model(ids).end_logits)


def test_an_encoder_has_the_blocks_that_it_declares() -> None:
    torch.manual_seed(0)
    sample = (torch.randint(1, 50, (2, 7)), torch.zeros(2, 7, dtype=torch.long))
    sample = (*sample, torch.ones(2, 7, dtype=torch.long))
    declared = encoder_network(Encoder(BertModel(CONFIG).eval()), sample, "tiny")
    kinds = tuple({type(declared.model.get_submodule(i.name)) for i in declared.layers})
    found = qb.Network.of(declared.model, sample, kinds=kinds)
    assert found.blocks == declared.blocks


def test_what_is_not_here_is_named() -> None:
    with pytest.raises(DataMissing, match="hf download nobody/nothing"):
        qb.network("transformers/nobody/nothing")
    with pytest.raises(BadInput, match=r"no torchvision network 'resnet19'.*resnet18"):
        qb.network("torchvision/resnet19")
    with pytest.raises(BadInput, match="no source of networks for 'torchvison/resnet18'"):
        qb.network("torchvison/resnet18")


def test_weights_of_timm_come_from_hugging_faces_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timm = pytest.importorskip("timm")
    import huggingface_hub

    model = timm.create_model("test_resnet").eval()
    path = tmp_path / "model.safetensors"
    save_file(model.state_dict(), path)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: str(path))
    net = qb.network("timm/test_resnet")
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(net.model(x), model(x), rtol=1e-3, atol=1e-4)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    with pytest.raises(DataMissing, match=r"timm\.create_model\('test_resnet', pretrained=True\)"):
        qb.network("timm/test_resnet")
    with pytest.raises(BadInput, match="no timm network 'test_resnett'"):
        qb.network("timm/test_resnett")
