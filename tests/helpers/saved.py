"""A small network, saved; ``python -m tests.helpers.saved FOLDER`` writes what tests commit.

The weights come from the folder, so that no generator of random numbers has to stay the same.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

import quantbench as qb
from quantbench.integer import store
from quantbench.integer.simulate import Simulation

SCHEME = qb.Scheme(
    qb.Grid(4, per_channel=True, range="minmax"),
    qb.Grid(8, symmetric=False, range="minmax"),
    placement="integer",
)


def module():
    """Two convolutions with ReLU6 between them, which equalization turns into a clamp."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU6(),
        nn.Conv2d(4, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 3),
    ).eval()


def network(folder):
    """The network of a folder, and its images."""
    held = load_file(folder / "network.safetensors")
    images = held.pop("images")
    held.pop("logits", None)
    model = module()
    model.load_state_dict(held)
    return qb.Network.of(model, images[:1], name="saved"), images


def main(folder):
    """Draw weights, quantize with a pipeline that rewrites, and write everything."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    weights, images = module().state_dict(), torch.randn(8, 3, 6, 6)
    save_file({**weights, "images": images}, folder / "network.safetensors")
    net, images = network(folder)
    q = qb.quantize(qb.method("equalize+nearest"), net, images, SCHEME)
    qb.save(q, folder)
    program = qb.lower(q)
    store.save(program, folder / "program.safetensors")
    held = {**weights, "images": images, "logits": Simulation(program)(images)}
    save_file(held, folder / "network.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
