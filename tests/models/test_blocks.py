import itertools

import pytest
import torch
from torch import nn

from quantbench.models import loading
from quantbench.models.catalog import MODELS, spec
from quantbench.models.loading import pretrained

TORCHVISION = [
    *(
        "resnet18",
        "resnet50",
        "mobilenet_v2",
        "regnet_x_400mf",
        "regnet_x_3_2gf",
        "mnasnet1_0",
        "mnasnet0_5",
    ),
    *(
        "inception_v3",
        "googlenet",
        "shufflenet_v2_x1_0",
        "squeezenet1_1",
        "densenet121",
        "efficientnet_b0",
    ),
]


def generator():
    return torch.Generator().manual_seed(0)


OUTPUTS = {  # of what is no classifier
    "NanoDetM": (1, 3 * (80 + 4 * 8), 52, 52),
    "DeepLabV3": (1, 21, 513, 513),
}


@pytest.mark.parametrize("name", MODELS)
def test_own_families_run_and_declare_their_blocks(name):
    model = pretrained(name, weights=False, generator=generator())
    _runs_and_declares_blocks(model, spec(name))
    inside = [type(m) for m in model.modules() if isinstance(m, nn.ReLU | nn.ReLU6) and m.inplace]
    assert not inside


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_networks_run_and_declare_their_blocks(name):
    model = pretrained(f"torchvision/{name}", weights=False, generator=generator())
    _runs_and_declares_blocks(model, spec(f"torchvision/{name}"))
    assert not any(getattr(m, "inplace", False) for m in model.modules())


def _runs_and_declares_blocks(model, found):
    assert not model.training
    blocks = loading.block_names(model, found)
    groups = loading.stages(model, blocks)
    assert blocks
    assert tuple(b for group in groups for b in group) == blocks
    seen = []
    for block in blocks:
        model.get_submodule(block).register_forward_hook(
            lambda *io, b=block: seen.append((b, io[-1].shape[-1]))
        )
    with torch.inference_mode():
        out = model(torch.rand(1, 3, found.size, found.size, generator=generator()))
    classes = 10 if found.size == 32 else 1000
    assert out.shape == OUTPUTS.get(found.family, (1, classes))
    assert out.isfinite().all()
    assert [b for b, _ in seen] == list(blocks)  # in the order of execution
    sizes = dict(seen)
    resolutions = [{sizes[b] for b in group} for group in groups]
    if found.family == "NanoDetM":
        assert resolutions.pop() == {52, 26, 13}  # its heads are no stage: each has its own
    assert all(len(r) == 1 for r in resolutions)
    assert all(a != b for a, b in itertools.pairwise(resolutions))
