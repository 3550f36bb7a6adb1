"""What is timed, and how many times faster than the others it is to be, by instruction set.

A goal is a ratio: the best other runtime's W8A8 over our median. It depends on what the processor
multiplies with: AVX-512 VNNI adds four products to an int32 at once, AVX2 has no such instruction,
and there the other runtimes saturate where ours must not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# bits of weights, activations, and of both at the edges
SCHEMES: Mapping[str, tuple[int, int, int | None]] = {
    "w8a8": (8, 8, 8),
    "w7a8": (7, 8, None),  # as others' quantizers do it for processors on which they saturate
    "w4a4": (4, 4, 8),
    "w4a8": (4, 8, None),
}


@dataclass(frozen=True)
class Target:
    """One network at one batch size.

    Attributes:
        network: its name.
        batch: images a call.
        schemes: those that are timed on our kernels; the others' runtimes have the first.
        goals: how many times faster each is to be, by instruction set.
        tested: real images whose top-1 accuracy is measured in every runtime; 0 for none.

    """

    network: str
    batch: int
    schemes: tuple[str, ...] = ("w8a8",)
    goals: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    tested: int = 0

    def __str__(self) -> str:
        """Such as ``cifar10/resnet20-batch1``."""
        return f"{self.network}-batch{self.batch}"

    def goals_of(self, isa: str) -> Mapping[str, float]:
        """Goals by scheme on an instruction set; none where nothing was promised."""
        return self.goals.get(isa, {})


def _target(network: str, batch: int, avx2: str, avx512: float = 0, tested: int = 0) -> Target:
    """``avx2``: schemes with their goals, such as ``w8a8 1.5, w4a8 1.8``."""
    pairs = [part.split() for part in avx2.split(",")]
    goals = {
        "avx2": {scheme: float(goal) for scheme, goal in pairs},
        "avx512": {"w8a8": avx512} if avx512 else {},
    }
    return Target(network, batch, tuple(scheme for scheme, _ in pairs), goals, tested)


TARGETS = (
    _target("cifar10/resnet20", 1, "w8a8 1.5, w4a8 1.8, w4a4 2.2", 2.4, tested=2000),
    _target("cifar10/resnet20", 128, "w8a8 1.0, w4a8 1.3, w4a4 1.7", 1.6),
    _target("torchvision/resnet18", 1, "w8a8 1.0, w4a8 1.3, w4a4 1.8", 1.3),
    _target("torchvision/resnet18", 32, "w8a8 1.0, w4a8 1.3, w4a4 1.8", 1.1),
    _target("imagenet/mobilenetv2-1.0", 1, "w8a8 1.2, w4a8 1.3", 1.9),
    _target("imagenet/mobilenetv2-1.0", 32, "w8a8 1.0, w4a8 1.1", 1.2),
    _target("imagenet/mobilenetv1-0.25", 1, "w8a8 1.3, w4a8 1.4", 2.8, tested=500),
    _target("imagenet/mobilenetv1-0.25", 32, "w8a8 1.0, w4a8 1.1", 1.2),
    _target("imagenet/efficientnet-lite0", 1, "w8a8 1.2, w4a8 1.3", 1.5),
    _target("imagenet/googlenet-bvlc", 1, "w8a8 1.0, w4a8 1.3, w4a4 1.6", 1.5),
    Target("imagenet/mobilenetv1-1.0", 1, tested=500),
    Target("cifar10/resnet20", 32),
    Target("imagenet/googlenet-bvlc", 32),
)

# a linear layer on one vector: W8A8 to the best 8 bits of the others, W4A8 to their best 4 bits
LINEAR: Mapping[str, Mapping[str, float]] = {
    "avx2": {"w8a8": 1.3, "w4a8": 1.6},
    "avx512": {"w4a8": 2.5},
}
