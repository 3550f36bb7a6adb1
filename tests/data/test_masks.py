"""Images with a class for every pixel: where they are put, and what is refused."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from quantbench.data import images, masks
from quantbench.errors import DataCorrupt, DataMissing

RNG = np.random.default_rng(0)


def encoded(array, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def archive(path, **files):
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name.replace("__", "/").replace("_dot_", "."))
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def voc(tmp_path, image, mask):
    pair = {"JPEGImages__a_dot_jpg": image, "SegmentationClass__a_dot_png": mask}
    return archive(tmp_path / "voc.tar", **{k: v for k, v in pair.items() if v is not None})


def test_an_image_lies_at_the_top_left_and_the_rest_is_outside(tmp_path):
    image = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    classes = RNG.integers(0, 21, (20, 30), dtype=np.uint8)
    classes[0, 0] = masks.VOID
    x, y = masks.voc(voc(tmp_path, encoded(image), encoded(classes)))
    assert x.shape == (1, 513, 513, 3)
    assert np.array_equal(x[0, :20, :30], image)
    assert np.array_equal(y[0, :20, :30], classes)
    assert (x[0, 20:] == 0).all()
    assert (y[0, :, 30:] == masks.OUTSIDE).all()


def test_a_mask_with_a_palette_gives_its_numbers(tmp_path):
    image, classes = np.zeros((4, 4, 3), np.uint8), np.full((4, 4), 7, np.uint8)
    picture = Image.fromarray(classes, "L")
    picture = picture.convert("P")
    picture.putpalette(list(range(256)) * 3)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    _, y = masks.voc(voc(tmp_path, encoded(image), buffer.getvalue()))
    assert (y[0, :4, :4] == 7).all()


def devkit(root, part="val", stems=("2007_000033", "2007_000042"), without=""):
    """The layout of VOC's development kit, with small images."""
    folder = root / "VOCdevkit" / "VOC2012"
    for name in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "ImageSets/Segmentation" / f"{part}.txt").write_text("\n".join(stems) + "\n")
    for i, stem in enumerate(stems):
        files = {
            f"JPEGImages/{stem}.jpg": encoded(np.full((20, 30, 3), 60 * i, np.uint8), "JPEG"),
            f"SegmentationClass/{stem}.png": encoded(np.full((20, 30), i + 1, np.uint8)),
        }
        for name, content in files.items():
            if name != without:
                (folder / name).write_bytes(content)


def test_the_development_kit_of_voc(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("QUANTBENCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataMissing) as missing:
        images.images("voc/val")
    assert missing.value.command.endswith(str(tmp_path / "VOCdevkit"))
    devkit(tmp_path)
    found = images.images("voc/val")
    assert found.x.shape == (2, 513, 513, 3)
    assert (found.y[1, :20, :30] == 2).all()
    assert (found.x[1, :20, :30] == 60).all()
    assert (found.y[0, 20:] == masks.OUTSIDE).all()
    with pytest.raises(DataMissing, match="voc/train"):
        images.images("voc/train")


def test_a_kit_without_one_of_its_masks(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("QUANTBENCH_CACHE", str(tmp_path / "cache"))
    devkit(tmp_path, "train", without="SegmentationClass/2007_000042.png")
    with pytest.raises(DataCorrupt, match="2007_000042"):
        images.images("voc/train")


@pytest.mark.parametrize(
    ("image", "mask", "said"),
    [
        ((9, 9, 3), np.zeros((9, 8), np.uint8), "has a mask of"),
        ((9, 9, 3), np.full((9, 9), 33, np.uint8), "holds 33, which is no class"),
        ((514, 9, 3), np.zeros((514, 9), np.uint8), "has a mask of"),
        ((9, 9, 3), np.zeros((9, 9, 3), np.uint8), "no mask of classes"),
        ((9, 9, 3), None, r"mask SegmentationClass/a\.png is not in its archive"),
    ],
)
def test_masks_that_do_not_fit_are_refused(tmp_path, image, mask, said):
    content = None if mask is None else encoded(mask)
    with pytest.raises(DataCorrupt, match=said):
        masks.voc(voc(tmp_path, encoded(np.zeros(image, np.uint8)), content))


def test_coco_is_scaled_to_the_canvas_by_the_size_of_its_mask(tmp_path):
    image = np.full((40, 80, 3), 90, np.uint8)
    classes = np.zeros((60, 120), np.uint8)
    classes[30:] = 15
    images = archive(tmp_path / "i.tar", a_dot_jpg=encoded(image, "JPEG"))
    targets = archive(tmp_path / "m.tar", a_dot_png=encoded(classes))
    x, y = masks.coco(images, targets)
    rows = round(60 * 513 / 120)
    assert (y[0, :rows] != masks.OUTSIDE).all()
    assert (y[0, rows:] == masks.OUTSIDE).all()
    assert set(np.unique(y[0, :rows])) == {0, 15}
    assert y[0, 0, 0] == 0
    assert y[0, rows - 1, 0] == 15
    assert np.abs(x[0, :rows].astype(int) - 90).max() <= 2
    (tmp_path / "m.tar").write_bytes(b"x" * 2000)
    with pytest.raises(DataCorrupt, match="not a whole archive"):
        masks.coco(images, targets)
