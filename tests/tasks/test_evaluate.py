import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from quantbench.errors import BadInput
from quantbench.models.preprocess import Preprocess
from quantbench.tasks.evaluate import accuracy, correct_bits, logits

NORM = Preprocess((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
LEVELS = st.sampled_from([-1.0, 0.0, 0.5, 2.0])  # few values, so that ties are common


def small_net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 7),
        )
    return net.eval()


def pictures(n, size=12):
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


@given(
    st.lists(st.lists(LEVELS, min_size=5, max_size=5), min_size=1, max_size=6),
    st.integers(1, 5),
    st.data(),
)
def test_correct_bits_is_a_stable_sort(rows, k, data):
    y = np.array([data.draw(st.integers(0, 4)) for _ in rows])
    expected = [
        label in sorted(range(5), key=lambda c, r=row: (-r[c], c))[:k]
        for row, label in zip(rows, y, strict=True)
    ]
    bits = correct_bits(torch.tensor(rows), y, k)
    assert bits.dtype == bool
    assert bits.tolist() == expected
    assert accuracy(torch.tensor(rows), y, k) == pytest.approx(100 * np.mean(expected))


def test_top1_agrees_with_argmax_where_nothing_ties():
    out = torch.randn(200, 10, generator=torch.Generator().manual_seed(0))
    y = np.random.default_rng(0).integers(0, 10, 200)
    assert (correct_bits(out, y) == (out.argmax(1).numpy() == y)).all()
    assert correct_bits(out, y, 10).all()


@pytest.mark.parametrize(
    ("y", "k", "message"),
    [([0, 1], 1, "3 outputs and 2 labels"), ([0, 1, 9], 1, "labels from 0 to 9"),
     ([0, -1, 2], 1, "labels from -1"),
     ([0, 1, 2], 5, "top-5 of 4 classes"), ([0, 1, 2], 0, "top-0")],
)  # fmt: skip
def test_labels_that_do_not_fit(y, k, message):
    with pytest.raises(BadInput, match=message):
        correct_bits(torch.zeros(3, 4), np.array(y), k)


def test_logits_are_those_of_a_plain_loop():
    net, x = small_net(), pictures(9)
    with torch.no_grad():
        one_by_one = torch.cat([net(NORM(x[i : i + 1])) for i in range(9)])
    out = logits(net, x, NORM)
    assert out.dtype == torch.float32
    # Memory layout and batch size choose other convolution kernels, which add in another order:
    # some float32 ulps.
    torch.testing.assert_close(out, one_by_one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 4, 9, 64])
def test_batch_size_does_not_matter(batch_size):
    net, x, y = small_net(), pictures(9), np.arange(9) % 7
    whole, split = logits(net, x, NORM), logits(net, x, NORM, batch_size=batch_size)
    torch.testing.assert_close(split, whole, rtol=1e-5, atol=1e-6)  # as above
    assert (correct_bits(split, y) == correct_bits(whole, y)).all()


def test_same_call_same_bits_and_nothing_global_moves():
    net, x, state = small_net(), pictures(20), torch.random.get_rng_state()
    tf32 = torch.backends.cudnn.allow_tf32
    assert torch.equal(logits(net, x, NORM), logits(net, x, NORM))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.backends.cudnn.allow_tf32 == tf32


def test_any_callable_is_a_model_and_sees_bounded_channels_last_batches():
    seen = []

    def model(batch):
        assert torch.is_inference_mode_enabled()
        assert batch.is_contiguous(memory_format=torch.channels_last)
        seen.append(len(batch))
        return batch.mean(dim=(2, 3))

    x = np.zeros((43, 224, 224, 3), np.uint8)
    assert torch.equal(logits(model, x, NORM), torch.full((43, 3), -2.0))  # (0 - 0.5) / 0.25
    assert sum(seen) == 43
    # bytes of 64 full-resolution channels, as VGG has
    assert max(seen) * 64 * 224 * 224 * 4 <= 2**29


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_outputs_that_are_not_finite_name_the_model_and_the_image(bad):
    def model(batch):
        out = torch.zeros(len(batch), 4)
        out[batch[:, 0, 0, 0] > 0, 2] = bad
        return out

    x = np.zeros((6, 4, 4, 3), np.uint8)
    x[5] = 255
    with pytest.raises(
        BadInput, match=r"shapes/x: NaN or infinite outputs for 1 of 2 images .* image 5"
    ):
        logits(model, x, NORM, batch_size=2, name="shapes/x")


def test_bad_input_is_refused():
    net, x = small_net(), pictures(2)
    for wrong, message in (
        (x[:0], "N > 0"),
        (x[0], "N > 0"),
        (x.astype(np.float32), "float32"),
        (x.transpose(0, 3, 1, 2).copy(), "uint8"),
    ):
        with pytest.raises(BadInput, match=message):
            logits(net, wrong, NORM)
    with pytest.raises(BadInput, match="batch size 0"):
        logits(net, x, NORM, batch_size=0)
    with pytest.raises(BadInput, match="gave an output of shape"):
        logits(lambda b: b, x, NORM)
    with pytest.raises(BadInput, match=r"mine is in training mode.*eval"):
        logits(small_net().train(), x, NORM, name="mine")
