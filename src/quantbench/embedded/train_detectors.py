"""Training of the small detectors on rendered scenes: torchvision's losses, AdamW, fixed seeds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from quantbench.data.procedural import scenes
from quantbench.models import detectors

EPOCHS = {"retinanet": 9, "fasterrcnn": 7}

_BATCH, _RATE, _DECAY = 16, {"retinanet": 2e-3, "fasterrcnn": 2e-3}, 1e-4

Target = dict[str, Tensor]


def train(name: str, say: Callable[[str], object] = print) -> dict[str, Tensor]:
    """Train ``retinanet`` or ``fasterrcnn``.

    Torchvision draws initial weights and proposals from the global generator, which is seeded and
    then put back.

    Returns:
        its state dict, rounded to half precision: the file is half as long, and the network is
            defined by it.

    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _train(name, say)


def _train(name: str, say: Callable[[str], object]) -> dict[str, Tensor]:
    found = scenes.render("train")
    model = detectors.untrained(f"scenes/{name}").train()
    steps = EPOCHS[name] * (len(found) // _BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE[name], weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE[name], total_steps=steps)
    for epoch in range(EPOCHS[name]):
        total = 0.0
        for index in torch.split(torch.randperm(len(found)), _BATCH):
            images, targets = zip(*(_augmented(found[i]) for i in index.tolist()), strict=True)
            losses: dict[str, Tensor] = model(list(images), list(targets))
            loss = torch.stack(list(losses.values())).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        say(f"epoch {epoch + 1} of {EPOCHS[name]}: loss {total * _BATCH / len(found):.3f}")
    return {
        k: _half(v) for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")
    }


def _augmented(scene: scenes.Scene) -> tuple[Tensor, Target]:
    """Image (3, 96, 96) in 0..1 and its boxes, mirrored either way at random."""
    x = torch.from_numpy(scene.image).permute(2, 0, 1).float() / 255
    boxes = torch.from_numpy(scene.boxes)
    for axis, (low, high) in ((2, (0, 2)), (1, (1, 3))):
        if torch.rand(()) < 0.5:
            x, boxes = x.flip(axis), boxes.clone()
            boxes[:, [low, high]] = scenes.SIZE - boxes[:, [high, low]]
    return x, {"boxes": boxes, "labels": torch.from_numpy(scene.labels)}


def _half(tensor: Tensor) -> Tensor:
    return tensor.detach().half() if tensor.is_floating_point() else tensor
