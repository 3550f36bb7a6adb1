"""Adam for one tensor, for loops whose steps take microseconds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Adam:
    """torch's Adam for one tensor, with the same bits.

    It calls the kernel without what takes longer than it does around it.

    Attributes:
        param_groups: as of torch's optimizers.

    """

    def __init__(self, tensor: Tensor, lr: float) -> None:
        self.param_groups: list[dict[str, Any]] = [{"params": [tensor], "lr": lr}]
        self.means, self.squares = torch.zeros_like(tensor), torch.zeros_like(tensor)
        self.steps = torch.zeros((), device=tensor.device)
        self.rest: dict[str, Any] = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0}
        self.rest |= {"amsgrad": False, "maximize": False}

    def zero_grad(self, **_: Any) -> None:
        """Forget the gradient."""
        self.param_groups[0]["params"][0].grad = None

    def state_dict(self) -> dict[str, Any]:
        """Everything but the tensor."""
        return {"means": self.means, "squares": self.squares, "steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What ``state_dict`` gave."""
        for own, kept in zip(self.state_dict().values(), state_dict.values(), strict=True):
            own.copy_(kept)

    @torch.no_grad()
    def step(self) -> None:
        """Move the tensor by its gradient."""
        (group,) = self.param_groups
        gradients = [tensor.grad for tensor in group["params"]]
        state: Any = [self.means], [self.squares], [], [self.steps.add_(1)]
        torch.ops.aten._fused_adam_(group["params"], gradients, *state, lr=group["lr"], **self.rest)
