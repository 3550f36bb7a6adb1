import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from quantbench.errors import DataCorrupt
from quantbench.tasks.random_crops import AREA, ASPECT, TRIES, crop_box, random_crops

sides = st.integers(1, 700)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@given(sides, sides, st.integers(0, 99))
def test_a_crop_lies_inside_its_image(width, height, seed):
    draws = np.random.default_rng(seed).random((TRIES, 4))
    left, top, right, bottom = crop_box(width, height, draws)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_area_and_aspect_are_drawn_within_their_bounds_and_reach_both_ends():
    boxes = [crop_box(400, 400, np.random.default_rng(i).random((TRIES, 4))) for i in range(2000)]
    w, h = np.array([(r - x, b - y) for x, y, r, b in boxes]).T
    area, aspect = w * h / 160_000, w / h
    assert AREA[0] - 0.01 < area.min() < AREA[0] + 0.01
    assert area.max() > 0.97
    assert ASPECT[0] - 0.01 < aspect.min() < ASPECT[0] + 0.01
    assert ASPECT[1] - 0.01 < aspect.max() < ASPECT[1] + 0.01
    # what fits is uniform in area; tall and wide are alike
    assert abs(np.log(aspect).mean()) < 0.02


def test_an_image_that_no_draw_fits_gives_the_middle():
    wide = crop_box(1000, 10, np.full((TRIES, 4), 0.99))
    assert wide == (493, 0, 493 + round(10 * ASPECT[1]), 10)
    assert math.isclose((wide[2] - wide[0]) / 10, ASPECT[1], rel_tol=0.05)


@pytest.fixture
def files(tmp_path):
    """A red, a green and a blue image, of different sizes."""
    paths = []
    for i, (w, h) in enumerate(((80, 60), (40, 90), (50, 50))):
        pixels = np.zeros((h, w, 3), np.uint8)
        pixels[..., i] = 200
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def test_each_file_has_its_own_crop_in_order(files):
    found = random_crops(files, 16, rng())
    assert found.shape == (3, 16, 16, 3)
    assert found.dtype == np.uint8
    for i, image in enumerate(found):
        assert (image[..., i] == 200).all()
        assert image.sum() == 200 * 256


def test_the_generator_alone_decides(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    paths = [tmp_path / "a.png"] * 8
    one, again, other = (random_crops(paths, 16, rng(seed)) for seed in (1, 1, 2))
    assert (one == again).all()
    assert (one != other).any()
    assert len({image.tobytes() for image in one}) == 8


def test_half_of_the_crops_are_mirrored(tmp_path):
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:] = np.arange(64)[None, :, None] * 4  # darker at the left
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = random_crops([tmp_path / "a.png"] * 200, 8, rng()).astype(int)
    turned = (found[:, 0, 0, 0] > found[:, 0, -1, 0]).mean()
    assert 0.35 < turned < 0.65


def test_a_broken_file_is_named(tmp_path, files):
    (tmp_path / "broken.JPEG").write_bytes(b"\xff\xd8\xff no image")
    with pytest.raises(DataCorrupt, match=r"broken\.JPEG is not a whole image"):
        random_crops([*files, tmp_path / "broken.JPEG"], 16, rng())
