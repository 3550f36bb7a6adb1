"""The simulation as a backend, so that it is timed and compared like the others."""

from __future__ import annotations

import torch

from quantbench.integer.backends.base import Array, Backend, Compiled
from quantbench.integer.backends.onednn import torch_threads
from quantbench.integer.ir import Program
from quantbench.integer.simulate import Simulation


class Simulated(Backend):
    """The exact simulation behind the same interface."""

    name = "simulation"

    def available(self) -> str | None:
        """Always."""
        return None

    def compile(self, program: Program, *, threads: int = 1) -> Compiled:
        """Prepare the simulation."""
        return SimulatedProgram(Simulation(program), threads)


class SimulatedProgram(Compiled):
    """A simulation, on whichever device, ready to run."""

    def __init__(self, simulation: Simulation, threads: int) -> None:
        self.simulation, self.threads = simulation, threads

    def __call__(self, images: Array) -> Array:
        """float32 logits (N, outputs)."""
        with torch_threads(self.threads):
            logits: Array = self.simulation(torch.from_numpy(images)).cpu().numpy()
        return logits

    def codes(self, images: Array) -> dict[str, Array]:
        """uint8 codes of every tensor that has them."""
        with torch_threads(self.threads):
            tensors = self.simulation.codes(torch.from_numpy(images))
        return {k: v.cpu().numpy() for k, v in tensors.items() if v.dtype == torch.uint8}
