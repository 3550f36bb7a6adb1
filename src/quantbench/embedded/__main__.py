"""Make the embedded tier anew: ``python -m quantbench.embedded [PART ...]``.

The parts are those of ``PARTS``. Images and texts are the same bits on every machine; trained
weights are, on one machine with one version of torch. Afterwards the digests stand in
embedded.toml, the files in the clone's DVC remote, and data.dvc names them: commit the three
together.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from quantbench.data import mosaic
from quantbench.data.manifest import SHAPES_GRID
from quantbench.data.procedural import qa, scenes, shapes
from quantbench.data.roots import clone_root
from quantbench.embedded import publish, train_detectors, train_images, train_qa
from quantbench.errors import BadInput


def images(out: Path) -> None:
    """The stored split of the shapes, as mosaics of 512; the others are rendered when needed."""
    each = SHAPES_GRID[0] * SHAPES_GRID[1]
    x, y = shapes.render("calib")
    for i, part in enumerate(np.split(x, len(x) // each)):
        mosaic.write(part, fresh(out / "shapes" / "calib" / f"{i:03d}.webp"), SHAPES_GRID)
    labels = fresh(out / "shapes" / "calib" / "labels.npy")
    np.save(labels, y.astype(np.uint8), allow_pickle=False)


def texts(out: Path) -> None:
    """Questions in SQuAD's format, the vocabulary, and the network's configuration."""
    for split in qa.SPLITS:
        content = json.dumps(qa.squad(split)).encode()
        fresh(out / "qa" / f"{split}.json.gz").write_bytes(gzip.compress(content, 9, mtime=0))
    words = "\n".join(qa.vocabulary())
    fresh(out / "qa" / "vocab.txt").write_text(f"{words}\n", encoding="utf-8")
    config = json.dumps(train_qa.CONFIG, indent=1)
    fresh(out / "qa" / "config.json").write_text(f"{config}\n", encoding="utf-8")


def network(name: str, out: Path) -> None:
    """Train one image network."""
    recipe = train_images.RECIPES[name]
    tensors = train_images.train(recipe)
    model = recipe.build()
    model.load_state_dict(tensors, strict=False)
    print(f"{name}: {train_images.accuracy(model):.2f} % on the test split")
    save_file(tensors, fresh(out / "checkpoints" / f"shapes_{name}.safetensors"))


def reader(out: Path) -> None:
    """Train the question-answering network."""
    tensors = train_qa.train()
    model = train_qa.untrained()
    model.load_state_dict({k: t.float() for k, t in tensors.items()})
    print("qa: {:.2f} % exact match, F1 {:.2f} on the test split".format(*train_qa.scores(model)))
    save_file(tensors, fresh(out / "checkpoints" / "qa_bert.safetensors"))


def pictures(out: Path) -> None:
    """Both stored splits of the scenes."""
    for split in ("calib", "test"):
        scenes.write(split, fresh(out / "scenes" / f"{split}.zip"))


def detector(name: str, out: Path) -> None:
    """Train one detector."""
    tensors = train_detectors.train(name)
    save_file(tensors, fresh(out / "checkpoints" / f"scenes_{name}.safetensors"))


def fresh(path: Path) -> Path:
    """Path for a new file.

    The old one may be a link into DVC's cache, which must not be written through.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    return path


PARTS: dict[str, Callable[[Path], None]] = {
    "images": images,
    "texts": texts,
    "resnet8": lambda out: network("resnet8", out),
    "mobilenet": lambda out: network("mobilenet", out),
    "qa": reader,
    "scenes": pictures,
    "retinanet": lambda out: detector("retinanet", out),
    "fasterrcnn": lambda out: detector("fasterrcnn", out),
}


def main(names: Sequence[str]) -> None:
    """Make the parts named, or all, and publish them in the clone."""
    if unknown := set(names) - set(PARTS):
        raise BadInput(
            f"no part {min(unknown)!r} of the embedded tier; choose from {', '.join(PARTS)}"
        )
    torch.set_num_threads(1)
    for name in names or PARTS:
        PARTS[name](clone_root() / "data" / "embedded")
    publish.publish(clone_root())


if __name__ == "__main__":
    main(sys.argv[1:])
