import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quantbench.errors import BadInput
from quantbench.models.preprocess import Preprocess


@given(
    hnp.arrays(np.uint8, (2, 3, 4, 3)),
    st.tuples(*[st.floats(-1, 200)] * 3),
    st.tuples(*[st.floats(0.1, 60)] * 3),
    st.sampled_from([1.0, 255.0]),
    st.booleans(),
)
def test_preprocess_is_the_formula(x, mean, std, scale, bgr):
    got = Preprocess(mean, std, scale, bgr)(x)
    channels = x[..., ::-1] if bgr else x
    want = ((channels / scale - np.array(mean)) / np.array(std)).transpose(0, 3, 1, 2)
    assert got.dtype == torch.float32
    assert got.is_contiguous()
    # float32 rounds each of three operations; the subtraction may cancel, so the bound is on its
    # operands
    bound = 3e-7 * (255 + np.abs(mean).max()) / min(std)
    assert np.abs(got.numpy() - want).max() <= bound


@pytest.mark.parametrize(
    "x", [np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3, 3, 3)), np.zeros((2, 3, 3, 1), np.uint8)]
)
def test_preprocess_refuses_what_is_no_batch_of_images(x):
    with pytest.raises(BadInput, match="uint8"):
        Preprocess((0, 0, 0), (1, 1, 1))(x)
