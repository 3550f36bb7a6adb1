"""Checkpoints as BRECQ, MQBench and CalibTIP save them, in networks written down as theirs are."""

import os
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

from quantbench.claims.catalog import read_claims
from quantbench.data import readers
from quantbench.errors import BadInput, DataCorrupt, DataMissing
from quantbench.models.loading import pretrained
from quantbench.models.released import weights
from quantbench.models.released.catalog import RELEASED
from quantbench.runs.lab import Lab


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """Nothing is here but what a test puts here."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("QUANTBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("QUANTBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path


def released(root, name, content):
    """A file where a user puts it."""
    path = root / "data" / "checkpoints" / name.partition("/")[0] / RELEASED[name].files[-1]
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def drawn(network):
    """Every tensor, statistics too, with values of its own."""
    generator = torch.Generator().manual_seed(0)
    for key, t in network.state_dict().items():
        if t.is_floating_point():
            fan = t[0].numel() if t.dim() > 1 else 1
            positive = key.endswith("running_var") or (t.dim() == 1 and key.endswith("weight"))
            value = torch.randn(t.shape, generator=generator) / fan**0.5
            t.copy_(value.abs() + 0.5 if positive else value)
    return network.eval()


def same(ours, theirs, side=64, **tolerance):
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x), **tolerance)


def norm_relu6(*layers):
    return [*layers, nn.BatchNorm2d(layers[0].out_channels), nn.ReLU6()]


class Inverted(nn.Module):
    """A block of MobileNetV2 whose layers stand in one sequence."""

    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        wide = inputs * expansion
        first = norm_relu6(nn.Conv2d(inputs, wide, 1, bias=False)) if expansion > 1 else []
        depthwise = nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False)
        last = [nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.conv = nn.Sequential(*first, *norm_relu6(depthwise), *last)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self):
        super().__init__()
        layers, inputs = [nn.Sequential(*norm_relu6(nn.Conv2d(3, 32, 3, 2, 1, bias=False)))], 32
        table = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1))
        for expansion, outputs, count, stride in (*table, (6, 160, 3, 2), (6, 320, 1, 1)):
            for i in range(count):
                layers.append(Inverted(inputs, outputs, stride if i == 0 else 1, expansion))
                inputs = outputs
        layers.append(nn.Sequential(*norm_relu6(nn.Conv2d(320, 1280, 1, bias=False))))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.0), nn.Linear(1280, 1000))

    def forward(self, x):
        return self.classifier(self.features(x).mean([2, 3]))


class Transform(nn.Module):
    """The bottleneck of a RegNet of pycls."""

    def __init__(self, inputs, outputs, stride, group):
        super().__init__()
        self.a = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.a_bn = nn.BatchNorm2d(outputs)
        self.b = nn.Conv2d(outputs, outputs, 3, stride, 1, groups=outputs // group, bias=False)
        self.b_bn = nn.BatchNorm2d(outputs)
        self.c = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.c_bn = nn.BatchNorm2d(outputs)

    def forward(self, x):
        x = self.a_bn(self.a(x)).relu()
        return self.c_bn(self.c(self.b_bn(self.b(x)).relu()))


class Residual(nn.Module):
    def __init__(self, inputs, outputs, stride, group):
        super().__init__()
        if inputs != outputs or stride > 1:
            self.proj = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.bn = nn.BatchNorm2d(outputs)
        self.f = Transform(inputs, outputs, stride, group)

    def forward(self, x):
        shortcut = self.bn(self.proj(x)) if hasattr(self, "proj") else x
        return (shortcut + self.f(x)).relu()


class RegNet(nn.Module):
    """RegNetX of pycls: widths, depths and group width as the papers print them."""

    def __init__(self, widths, depths, group):
        super().__init__()
        self.stem = nn.Sequential(
            OrderedDict(conv=nn.Conv2d(3, 32, 3, 2, 1, bias=False), bn=nn.BatchNorm2d(32))
        )
        inputs = 32
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True), 1):
            stage = nn.Sequential()
            for j in range(1, depth + 1):
                block = Residual(inputs, width, 2 if j == 1 else 1, group)
                stage.add_module(f"b{j}", block)
                inputs = width
            self.add_module(f"s{i}", stage)
        self.head = nn.Sequential(OrderedDict(fc=nn.Linear(inputs, 1000)))

    def forward(self, x):
        x = self.stem(x).relu()
        for stage in (self.s1, self.s2, self.s3, self.s4):
            x = stage(x)
        return self.head(x.mean([2, 3]))


@pytest.mark.parametrize("name", ["brecq/mobilenet_v2", "mqbench/mobilenet_v2"])
def test_mobilenet_with_its_layers_in_one_sequence(root, name):
    theirs = drawn(MobileNetV2())
    released(root, name, {"model": theirs.state_dict(), "epoch": 3})
    same(pretrained(name), theirs)


@pytest.mark.parametrize(
    ("name", "widths", "depths", "group"),
    [
        ("brecq/regnet600m", (48, 96, 240, 528), (1, 3, 5, 7), 24),
        ("mqbench/regnet800m", (64, 128, 288, 672), (1, 3, 7, 5), 16),
        ("brecq/regnet3200m", (96, 192, 432, 1008), (2, 6, 15, 2), 48),
    ],
)
def test_regnets_of_pycls(root, name, widths, depths, group):
    theirs = drawn(RegNet(widths, depths, group))
    released(root, name, theirs.state_dict())
    same(pretrained(name), theirs)


def test_resnet_saved_from_parallel_training(root):
    theirs = drawn(torchvision.models.resnet18())
    tensors = {f"module.{k}": t for k, t in theirs.state_dict().items()}
    released(root, "mqbench/resnet18", {"state_dict": tensors})
    same(pretrained("mqbench/resnet18"), theirs)


def test_mnasnet_of_width_two(root):
    theirs = drawn(torchvision.models.MNASNet(2.0))
    released(root, "brecq/mnasnet2", theirs.state_dict())
    same(pretrained("brecq/mnasnet2"), theirs)


def test_a_file_that_torch_hub_has_downloaded(root):
    theirs = drawn(torchvision.models.resnet18())
    path = root / "torch" / "hub" / "checkpoints" / "resnet18_imagenet.pth.tar"
    path.parent.mkdir(parents=True)
    torch.save(theirs.state_dict(), path)
    same(pretrained("brecq/resnet18"), theirs)


def folded(network):
    """State dict of a network whose batch norm is folded away, as CalibTIP saves it."""
    tensors, modules = {}, dict(network.named_modules())
    pairs = [(c, n) for c, n in zip(modules, list(modules)[1:], strict=False)]
    for name, after in pairs:
        conv, norm = modules[name], modules[after]
        if isinstance(conv, nn.Conv2d):
            gain = norm.weight / (norm.running_var + norm.eps).sqrt()
            tensors[f"{name}.weight"] = conv.weight * gain.view(-1, 1, 1, 1)
            tensors[f"{name}.bias"] = norm.bias - gain * norm.running_mean
            tensors[f"{name}.quantize_input.running_range"] = torch.zeros(1)
    return tensors | {f"fc.{k}": t for k, t in network.fc.state_dict().items()}


def test_calibtips_networks_without_batch_norm(root):
    theirs = drawn(torchvision.models.resnet18())
    with torch.no_grad():
        released(root, "calibtip/resnet18", folded(theirs))
    same(pretrained("calibtip/resnet18"), theirs, rtol=1e-3, atol=1e-3)


def test_what_is_not_here_says_where_it_comes_from():
    with pytest.raises(DataMissing) as missing:
        pretrained("brecq/resnet18")
    assert missing.value.name == "brecq/resnet18"
    assert "yhhhli/BRECQ/releases/download/v1.0/resnet18_imagenet" in missing.value.command
    with pytest.raises(DataMissing, match="calibtip") as missing:
        pretrained("calibtip/resnet50")
    assert "--load-from-vision" in missing.value.command


class Evil:
    def __reduce__(self):
        return os.system, ("echo executed",)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ({"a": Evil()}, "plain tensors"),
        ([1, 2], "no state dict"),
        ({"model": {"a": 1}}, "no state dict"),
    ],
)
def test_files_that_hold_something_else(root, content, error, capfd):
    released(root, "brecq/resnet18", content)
    with pytest.raises(DataCorrupt, match=error):
        pretrained("brecq/resnet18")
    assert "executed" not in capfd.readouterr().out


def test_weights_of_another_network_are_named(root):
    released(root, "brecq/resnet18", drawn(torchvision.models.mnasnet0_5()).state_dict())
    with pytest.raises(BadInput, match="brecq/resnet18"):
        pretrained("brecq/resnet18")


def test_a_published_row_runs_once_checkpoint_and_images_are_here(root, monkeypatch):
    """The layout of ImageNet and of the checkpoint, with three classes of two images."""
    rng = np.random.default_rng(0)
    for part in ("val", "train"):
        for i in range(6):
            folder = root / "data" / "imagenet" / part / f"n0{i % 3}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (240, 230, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.JPEG")
    whole = readers.image_folder
    monkeypatch.setattr(readers, "image_folder", lambda f, *a: whole(f, *a, classes=3))
    path = released(root, "mqbench/resnet18", drawn(torchvision.models.resnet18()).state_dict())
    (claim,) = (c for c in read_claims("mqbench") if c.id.endswith("resnet18/w8a8-minmax/minmax"))
    assert not claim.skip
    claim = replace(claim, calib=replace(claim.calib, n=4))
    lab = Lab(root / "runs")
    own, rivals = lab.cells(claim)
    assert not rivals
    assert own[0].checkpoint == weights.digest("mqbench/resnet18")
    assert lab.result(own[0]).n == 6
    torch.save(drawn(torchvision.models.resnet18()).half().state_dict(), path)
    assert lab.cells(claim)[0][0].key() != own[0].key()  # other weights, another cell
