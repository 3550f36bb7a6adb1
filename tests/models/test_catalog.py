import math
import subprocess
import sys

import pytest
import torch

from quantbench.data import images as data
from quantbench.errors import BadInput, DataMissing
from quantbench.models import loading
from quantbench.models.catalog import spec
from quantbench.models.checkpoint import checkpoint
from quantbench.models.cifar_resnet import ApotResNet20, CifarResNet, round8
from quantbench.models.loading import pretrained
from quantbench.models.mobilenet import MobileNetV1
from quantbench.network.modules import SubsamplePad
from quantbench.tasks import evaluate


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def published(name):
    """A network with its real weights and its evaluation images."""
    try:
        return pretrained(name), data.images(spec(name).eval_data)
    except DataMissing as e:
        pytest.skip(str(e))


# Measured with the weights' own code on exactly these images (see the README of the data).
@pytest.mark.parametrize(
    ("name", "top1"), [("cifar10/resnet20", 91.73), ("cifar10/resnet20-apot", 92.96)]
)
def test_full_precision_accuracy(name, top1):
    model, images = published(name)
    found = evaluate.accuracy(
        evaluate.logits(model, images.x, spec(name).preprocess, name=name), images.y
    )
    # 10 of 10,000 images may fall the other way by rounding
    assert found == pytest.approx(top1, abs=0.1 + 1e-9)


# The same for every step-th image only, because these networks are slow; the full figures are
# claims of the suite.
@pytest.mark.parametrize(
    ("name", "top1", "step"),
    [
        ("cifar10/resnet56", 93.39, 40),
        ("imagenet/mobilenetv1-0.25", 65.46, 13),
        ("imagenet/googlenet-bvlc", 79.92, 52),
        ("imagenet/mobilenetv1-1.0", 79.69, 52),
        ("imagenet/mobilenetv2-1.0", 80.23, 52),
        ("imagenet/efficientnet-lite0", 83.4, 52),
    ],
)
def test_accuracy_on_some_images(name, top1, step):
    model, images = published(name)
    x, y = images.x[::step], images.y[::step]
    found = evaluate.accuracy(evaluate.logits(model, x, spec(name).preprocess, name=name), y)
    sampling = math.sqrt(top1 * (100 - top1) / len(y))  # standard error of a sample, in points
    assert abs(found - top1) < 3 * sampling


def test_apot_checkpoints_bring_their_quantizers_parameters():
    model, _ = published("cifar10/resnet20-apot-w4a4")
    tensors = checkpoint("cifar10_resnet20_apot_w4a4")
    alphas = [k for k in tensors if k.endswith("_alpha")]
    # 18 convolutions of 3x3 and two shortcuts, weights and activations
    assert len(alphas) == 2 * 20
    assert all(torch.equal(model.get_buffer(k), tensors[k]) for k in alphas)
    assert torch.equal(model.layer2[0].conv1.weight, tensors["layer2.0.conv1.weight"])


def test_round8_rounds_once():
    w = torch.randn(4, 5, generator=generator())
    once = round8(w)
    codes = once / w.max() * 127
    assert torch.allclose(codes, codes.round(), atol=1e-3)  # float32 division of codes of about 100
    assert (once - w).abs().max() <= w.max() / 127 / 2 * (1 + 1e-4)
    assert torch.allclose(round8(once), once, rtol=1e-6)


def test_only_first_and_last_layer_of_apot_are_rounded():
    tensors = ApotResNet20().state_dict()
    model = loading.from_tensors(spec("cifar10/resnet20-apot"), tensors)
    changed = {k for k, t in model.state_dict().items() if not torch.equal(t, tensors[k])}
    assert changed == {"conv1.weight", "fc.weight"}


def test_option_a_shortcut_element_by_element():
    x = torch.randn(2, 4, 6, 6, generator=generator())
    out = SubsamplePad(4)(x)
    assert out.shape == (2, 8, 3, 3)
    for c in range(8):
        for i in range(3):
            for j in range(3):
                expected = x[:, c - 2, 2 * i, 2 * j] if 2 <= c < 6 else torch.zeros(2)
                assert torch.equal(out[:, c, i, j], expected)


# Trainable parameters: He et al. 2016, table 6; Caffe's bvlc_googlenet without auxiliary heads;
# Howard et al., table 6; torchvision's of MobileNetV2; TensorFlow's of EfficientNet-Lite.
@pytest.mark.parametrize(
    ("name", "millions", "digits"),
    [("cifar10/resnet20", 0.27, 2), ("cifar10/resnet32", 0.46, 2), ("cifar10/resnet44", 0.66, 2),
     ("cifar10/resnet56", 0.85, 2), ("imagenet/googlenet-bvlc", 7.0, 1),
     ("imagenet/mobilenetv1-0.25", 0.5, 1), ("imagenet/mobilenetv1-0.5", 1.3, 1),
     ("imagenet/mobilenetv1-0.75", 2.6, 1), ("imagenet/mobilenetv1-1.0", 4.2, 1),
     ("imagenet/mobilenetv2-1.0", 3.5, 1), ("imagenet/efficientnet-lite0", 4.7, 1)],
)  # fmt: skip
def test_number_of_parameters(name, millions, digits):
    model = pretrained(name, weights=False, generator=generator())
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, digits) == millions


def test_random_weights_come_from_the_generator_alone():
    state = torch.random.get_rng_state()
    a, b, c = (
        pretrained("shapes/resnet8", weights=False, generator=generator(s)).conv1.weight
        for s in (1, 1, 2)
    )
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(torch.random.get_rng_state(), state)
    with pytest.raises(BadInput, match=r"torch\.Generator"):
        pretrained("shapes/resnet8", weights=False)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("resnet20", "did you mean cifar10/resnet20"), ("cifar10/resnet57", "cifar10/resnet56"),
     ("torchvision/resnet81", "did you mean resnet18"),
     ("torchvision/resnet50@IMAGENET1K_V9", "IMAGENET1K_V2"),
     ("zzz", "there are .*cifar10/resnet20"), ("imagenet/mobilenetv1-0.01", "no channels")],
)  # fmt: skip
def test_unknown_names_get_a_hint(name, hint):
    with pytest.raises(BadInput, match=hint):
        pretrained(name, weights=False, generator=generator())


def test_depths_and_widths_that_do_not_exist():
    with pytest.raises(BadInput, match="6n"):
        CifarResNet(21)
    with pytest.raises(BadInput, match="no channels"):
        MobileNetV1(0.01)


def _without(tensors, key):
    return {k: t for k, t in tensors.items() if k != key}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: _without(t, "bn1.weight"),
            r"shapes_resnet8, for shapes/resnet8: it lacks 1 tensors bn1\.weight",
        ),
        (lambda t: {**t, "odd": torch.zeros(1)}, "unknown 1 tensors odd"),
        (lambda t: {**t, "bn1.bias": torch.zeros(3)}, r"bn1\.bias has shape \(3,\), not \(16,\)"),
        (lambda t: {**t, "linear.bias": torch.full((10,), torch.nan)}, r"linear\.bias holds NaN"),
        (
            lambda t: {**t, "linear.bias": torch.full((10,), torch.inf)},
            r"linear\.bias holds NaN or infinite",
        ),
        (lambda _: {}, r"lacks 37 tensors .*\.\.\.; is it a checkpoint of another network"),
    ],
)
def test_checkpoints_that_do_not_fit(change, message):
    tensors = {
        k: t
        for k, t in CifarResNet(8).state_dict().items()
        if not k.endswith("num_batches_tracked")
    }
    loading.from_tensors(spec("shapes/resnet8"), tensors)
    with pytest.raises(BadInput, match=message):
        loading.from_tensors(spec("shapes/resnet8"), change(tensors))


def test_listing_models_does_not_import_torch():
    code = (
        "import sys, quantbench.models.catalog as m; m.spec('cifar10/resnet20'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
