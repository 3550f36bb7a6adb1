"""A task in memory, for tests of the engine; as a program it runs a few cells."""

import sys
from pathlib import Path

import torch

from quantbench.conformance import small_network


class Tiny:
    """A task in memory: labels are what the full-precision network says."""

    model, eval_data, metric = "tiny/net", "tiny/eval", "top1"

    def __init__(self):
        self.net, self.x = small_network()
        self.labels = self.net.model(self.x).argmax(1)
        self.evaluations = 0

    def digests(self, calib):
        return "weights", f"calib {calib}", "eval"

    def network(self):
        return self.net

    def calibration(self, _, n, seed):
        return (
            self.x[torch.randperm(16, generator=torch.Generator().manual_seed(seed % 2**31))[:n]],
        )

    def scores(self, model):
        self.evaluations += 1
        return (model(self.x).argmax(1) == self.labels).numpy()

    def gold(self):
        return None


def run(folder, seeds):
    """Run one cell a seed and print the digests."""
    from quantbench.methods.adaround import AdaRound
    from quantbench.quantization.scheme import Grid, Scheme
    from quantbench.runs.lab import Lab

    torch.set_num_threads(1)
    tiny = Tiny()
    lab = Lab(Path(folder))
    for seed in range(seeds):
        cell = lab.cell(tiny, AdaRound(iterations=10), Scheme(Grid(3)), "tiny/calib", 8, seed)
        print(lab.result(cell).digest, flush=True)


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]))
