import hashlib
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision

from quantbench.data import torchvision_weights
from quantbench.errors import DataCorrupt, DataMissing
from quantbench.models import loading
from quantbench.models import torchvision as models
from quantbench.models.catalog import spec
from quantbench.models.loading import pretrained


def generator():
    return torch.Generator().manual_seed(0)


def cached(tmp_path, monkeypatch, tensors, name="net", prefix=None):
    """Put weights where torchvision would have downloaded them to."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(tensors, folder / "new")
    digest = hashlib.sha256((folder / "new").read_bytes()).hexdigest()
    path = (folder / "new").rename(folder / f"{name}-{prefix or digest[:8]}.pth")
    real = torchvision_weights.weights_of("mnasnet0_5")
    fake = SimpleNamespace(
        url=f"address/{path.name}", name=real.name, transforms=real.transforms, meta=real.meta
    )
    monkeypatch.setattr(torchvision_weights, "weights_of", lambda _: fake)
    return path


def test_torchvision_weights_that_were_never_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(DataMissing, match=r"get_model\('resnet18', weights='IMAGENET1K_V1'\)"):
        pretrained("torchvision/resnet18")


def test_torchvision_weights_from_its_cache(tmp_path, monkeypatch):
    theirs = torchvision.models.get_model("mnasnet0_5", weights=None).eval()
    cached(tmp_path, monkeypatch, theirs.state_dict())
    ours = pretrained("torchvision/mnasnet0_5")
    x = torch.rand(1, 3, 224, 224, generator=generator())
    with torch.inference_mode():
        assert torch.equal(ours(x), theirs(x))


def test_torchvision_weights_that_are_not_the_published_ones(tmp_path, monkeypatch):
    cached(tmp_path, monkeypatch, {}, prefix="00000000")
    with pytest.raises(DataCorrupt, match="should start with 00000000"):
        pretrained("torchvision/mnasnet0_5")


class Evil:
    def __reduce__(self):
        return os.system, ("echo executed",)


def test_torchvision_weights_with_code_in_them(tmp_path, monkeypatch, capfd):
    cached(tmp_path, monkeypatch, {"a": Evil()})
    with pytest.raises(DataCorrupt, match="plain tensors"):
        pretrained("torchvision/mnasnet0_5")
    assert "executed" not in capfd.readouterr().out


def test_old_densenet_keys_and_auxiliary_heads(tmp_path, monkeypatch):
    old = {
        "features.denseblock1.denselayer2.norm.1.weight": 1,
        "features.norm0.weight": 2,
        "AuxLogits.fc.bias": 3,
    }
    cached(tmp_path, monkeypatch, {k: torch.tensor(v) for k, v in old.items()})
    assert {k: int(t) for k, t in models.weights("x").items()} == {
        "features.denseblock1.denselayer2.norm1.weight": 1,
        "features.norm0.weight": 2,
    }


def test_inceptions_see_the_input_that_they_were_trained_on():
    theirs = torchvision.models.googlenet(
        weights=None, aux_logits=False, transform_input=True, init_weights=False
    ).eval()
    found = spec("torchvision/googlenet")
    ours = loading.from_tensors(found, theirs.state_dict())
    x = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    with torch.inference_mode():
        a, b = ours(found.preprocess(x)), theirs(spec("torchvision/resnet18").preprocess(x))
    # the same affine map, in two roundings instead of one
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
