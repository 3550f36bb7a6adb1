"""DeepLabV3 against its layers called one by one, and against the spacing of its windows."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from quantbench.data.images import images
from quantbench.errors import BadInput, DataMissing
from quantbench.models.catalog import spec
from quantbench.models.checkpoint import checkpoint
from quantbench.models.deeplab import DeepLabV3
from quantbench.models.loading import block_names, pretrained

NAME = "voc/deeplabv3-mobilenetv2"

# expansion, outputs, stride and dilation of every block at output stride 8
BLOCKS = (
    *((1, 16, 1, 1), (6, 24, 2, 1), (6, 24, 1, 1), (6, 32, 2, 1), (6, 32, 1, 1), (6, 32, 1, 1)),
    *((6, 64, 1, 1), (6, 64, 1, 2), (6, 64, 1, 2), (6, 64, 1, 2), (6, 96, 1, 2), (6, 96, 1, 2)),
    *((6, 96, 1, 2), (6, 160, 1, 2), (6, 160, 1, 4), (6, 160, 1, 4), (6, 320, 1, 4)),
)


def by_hand(t, x):
    """The published network in functions, from its own tensors by their own names."""

    def conv(x, name, stride=1, dilation=1):
        w, b = t[f"{name}.weight"], t[f"{name}.bias"]
        groups = len(w) if w.shape[1] == 1 and len(w) > 1 else 1
        return F.conv2d(x, w, b, stride, dilation * (w.shape[2] // 2), dilation, groups)

    size, x = x.shape[2:], F.relu6(conv(x, "stem.0", 2))
    for i, (expansion, outputs, stride, dilation) in enumerate(BLOCKS):
        y, first = x, int(expansion > 1)
        if first:
            y = F.relu6(conv(y, f"blocks.{i}.conv.0.0"))
        y = F.relu6(conv(y, f"blocks.{i}.conv.{first}.0", stride, dilation))
        y = conv(y, f"blocks.{i}.conv.{first + 1}.0")
        x = x + y if stride == 1 and x.shape[1] == outputs else y
    p = F.relu(conv(x.mean((2, 3), keepdim=True), "pool.0")).expand(-1, -1, *x.shape[2:])
    y = F.relu(conv(torch.cat([p, F.relu(conv(x, "aspp0.0"))], 1), "proj.0"))
    return F.interpolate(conv(y, "logits"), size, mode="bilinear", align_corners=True)


def published(model):
    """A model's tensors under the names of the checkpoint."""
    theirs = {ours: name for name, ours in model.published_names()}
    cut = ((*key.rpartition("."), t) for key, t in model.state_dict().items())
    return {f"{theirs.get(layer, layer)}.{part}": t for layer, _, part, t in cut}


def test_the_network_is_its_layers_one_by_one():
    torch.manual_seed(0)
    model, x = DeepLabV3(size=65).eval(), torch.randn(2, 3, 65, 65)
    with torch.no_grad():
        assert torch.equal(model(x), by_hand(published(model), x))
    assert len(block_names(model, spec(NAME))) == len(BLOCKS)


@pytest.mark.parametrize("size", [512, 0, 8])
def test_sizes_whose_corners_do_not_meet_are_refused(size):
    with pytest.raises(BadInput, match="choose 8 n"):
        DeepLabV3(size=size)


def test_the_published_weights_give_the_same_logits():
    try:
        model, found = pretrained(NAME), images("voc/seg48")
    except DataMissing as missing:
        pytest.skip(str(missing))
    x = spec(NAME).preprocess(np.array(found.x[:1]))
    with torch.no_grad():
        expected = by_hand(checkpoint(spec(NAME).checkpoint), x)
        # equal but for the order of sums, which follows where in memory tensors happen to lie
        torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-4)
