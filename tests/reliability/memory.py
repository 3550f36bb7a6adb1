"""python -m tests.reliability.memory NETWORK EXAMPLES MIB: a reconstruction under a limit.

Prints, as JSON, the peak of the process and the most that activations took of it, in MiB.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass

NOTHING = 1e-6  # MiB: every activation goes to a file

WITHIN = 1.05  # times the limit

# examples are chosen so that all activations together take several times the limit
NETWORKS = {"shapes/resnet8": (1024, 96), "shapes/mobilenet": (1024, 96), "qa/bert": (256, 16)}


@dataclass(frozen=True)
class Limited:
    """What was measured of one network.

    Attributes:
        network: its name.
        limit: for activations, in MiB.
        held: the most that activations took of memory, as they are counted, in MiB.
        beyond: how much higher the process's peak is than with every activation in a file.

    """

    network: str
    limit: float
    held: float
    beyond: float

    @property
    def kept(self) -> bool:
        """Whether neither is above the limit by more than 5 %."""
        return max(self.held, self.beyond) <= WITHIN * self.limit


def limited(network: str, examples: int, limit: float) -> Limited:
    """Measure it, in processes of their own."""
    files, memory = (_measured(network, examples, mib) for mib in (NOTHING, limit))
    return Limited(network, limit, memory["held"], memory["peak"] - files["peak"])


def _measured(network: str, examples: int, mib: float) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.reliability.memory", network, str(examples), str(mib)]
    # large pieces go back to the system as soon as they are free
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(network: str, examples: int, mib: float) -> None:
    """Reconstruct every layer for two steps; print the peaks."""
    import torch

    import quantbench as qb
    from quantbench.calibration.memory import LIMIT, Memory
    from quantbench.system.memory import peak_megabytes, restart_peak

    os.environ[LIMIT] = str(mib / 1024)
    torch.set_num_threads(1)
    data, held = network.partition("/")[0], [0.0]
    own = Memory.room

    def room(self: Memory, *args: object, **more: object) -> object:
        made = own(self, *args, **more)
        held[0] = max(held[0], self.used / 2**20)
        return made

    Memory.room = room
    task = qb.task(network, f"{data}/test")
    net, inputs = task.network(), task.calibration(f"{data}/calib", examples, 0)
    restart_peak()
    before = peak_megabytes()
    method = qb.method("adaround", {"iterations": 2})
    qb.quantize(method, net, inputs if len(inputs) > 1 else inputs[0], qb.Scheme(qb.Grid(4)))
    print(json.dumps({"peak": peak_megabytes() - before, "held": held[0]}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
