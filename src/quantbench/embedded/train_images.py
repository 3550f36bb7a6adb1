"""Training of the two image networks: plain cross-entropy, SGD, fixed seeds, one thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from quantbench.data.procedural import shapes
from quantbench.models.cifar_resnet import CifarResNet
from quantbench.models.mobilenet import ShapesMobileNet
from quantbench.models.preprocess import Preprocess

PREPROCESS = Preprocess((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Recipe:
    """How one network is trained.

    Attributes:
        build: makes the network; called under ``torch.manual_seed`` in a forked generator.
        epochs: over the 20,480 training images, mirrored and turned by quarter turns at random.
        rate: peak learning rate, one cycle up and down.
        spread: standard deviation of the logarithm of the initial batch-norm scales. Networks
            trained at scale have channels of very different ranges, which is what makes per-tensor
            grids lose accuracy; a short training from equal scales does not get there by itself.

    """

    build: Callable[[], nn.Module]
    epochs: int
    rate: float
    spread: float
    seed: int = 0
    batch: int = 128


RECIPES = {
    "resnet8": Recipe(lambda: CifarResNet(8), epochs=9, rate=0.1, spread=0.5),
    "mobilenet": Recipe(ShapesMobileNet, epochs=9, rate=0.1, spread=0.5),
}


def train(recipe: Recipe, say: Callable[[str], object] = print) -> dict[str, Tensor]:
    """Train one network.

    Returns:
        its state dict, without the counters of batch norm.

    """
    pixels, labels = shapes.render("train")
    x, y = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels)
    model = _initial(recipe)
    steps = recipe.epochs * (len(x) // recipe.batch)
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.rate, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=steps)
    rng = torch.Generator().manual_seed(recipe.seed)
    for epoch in range(recipe.epochs):
        total = 0.0
        for index in torch.split(torch.randperm(len(x), generator=rng), recipe.batch):
            if len(index) < recipe.batch:
                continue
            loss = cross_entropy(model(_augment(x[index], rng)), y[index])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        say(f"epoch {epoch + 1} of {recipe.epochs}: loss {total * recipe.batch / len(x):.3f}")
    return {
        k: v.detach().clone()
        for k, v in model.state_dict().items()
        if not k.endswith("num_batches_tracked")
    }


def accuracy(model: nn.Module, split: str = "test") -> float:
    """Top-1 in percent on a split, in evaluation mode."""
    pixels, labels = shapes.render(split)
    model.eval()
    with torch.no_grad():
        hits = [
            model(PREPROCESS(p)).argmax(1).numpy()
            for p in np.array_split(pixels, len(pixels) // 256)
        ]
    return float(100 * (np.concatenate(hits) == labels).mean())


def _initial(recipe: Recipe) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = recipe.build()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 0.0, recipe.spread)
                module.weight.data.exp_()
    return model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _augment(x: Tensor, rng: torch.Generator) -> Tensor:
    """Normalise uint8 (B, 3, 32, 32), mirrored and turned by quarter turns.

    Shapes keep their class under both.
    """
    flip, turn = (int(torch.randint(n, (), generator=rng)) for n in (2, 4))
    x = torch.rot90(x, turn, (2, 3))
    x = ((x.flip(3) if flip else x).float() / 255 - 0.5) / 0.5
    return x.contiguous(memory_format=torch.channels_last)
