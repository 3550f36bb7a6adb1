"""Linear layers on integers in a network whose rest stays in floats, such as a transformer.

A text network takes token numbers and masks, and multiplies tensors by each other: no integer
program covers it. Its linear layers, where nearly all of its multiplications are, are programs of
their own: float32 in, rounded to the codes of the layer's activation quantizer; whole numbers
inside; float32 out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quantbench.errors import BadInput, Unsupported
from quantbench.integer.ir import Format, Program
from quantbench.integer.lowering.convolution import conv
from quantbench.integer.lowering.formats import act_format, whole
from quantbench.integer.validate import validate
from quantbench.quantization.quantized import Quantized

Run = Callable[[NDArray[Any]], NDArray[Any]]  # (N, K, 1, 1) to (N, O), float32


def linear_programs(q: Quantized) -> dict[str, Program]:
    """Programs of shape (K, 1, 1) of the linear layers with quantized inputs, by layer's name.

    Raises:
        Unsupported: no such layer, a grid of inputs that is not uniform, or weights that do not fit
            int8.
        BadInput: ranges that were never calibrated.

    """
    found = {}
    for layer in q.layers():
        if layer.info.kind != "linear" or layer.act is None:
            continue
        name = layer.info.name
        x, levels = act_format(layer.act.qparams, name)
        if levels != tuple(range(x.lo, x.hi + 1)):
            uneven = "inputs on levels that are not evenly spaced"
            raise Unsupported(f"layer {name!r}: {uneven}; choose a uniform grid")
        op = conv(layer, ("input",), x, None, "output", whole(Format(1.0, 0)), (0, 0, 0, 0))
        found[name] = Program(x, (op.weight.shape[1], 1, 1), (op,))
        validate(found[name])
    if not found:
        raise Unsupported(
            f"{q.net.name} under {q.scheme} has no linear layer with quantized inputs"
        )
    return found


def on_integers(q: Quantized, make: Callable[[str, Program], Run]) -> nn.Module:
    """The simulation with its linear layers in integers.

    Args:
        q: quantized with quantized layer inputs; it is not changed.
        make: gives what runs the program of a layer: (N, K, 1, 1) float32 to (N, O) float32.

    Raises:
        Unsupported: as for :func:`linear_programs`.

    """
    model = copy.deepcopy(q.fake())
    for name, program in linear_programs(q).items():
        model.set_submodule(name, IntegerLinear(make(name, program)))
    return model


class IntegerLinear(nn.Module):
    """A linear layer of the last dimension, whatever the others are."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """(..., K) to (..., O); raises BadInput for anything but float32 on the CPU."""
        if x.dtype != torch.float32 or x.device.type != "cpu":
            raise BadInput(
                f"integer linear layers take float32 on the cpu, not {x.dtype} on {x.device}"
            )
        rows = np.ascontiguousarray(x.numpy().reshape(-1, x.shape[-1], 1, 1))
        y = torch.from_numpy(np.ascontiguousarray(self.run(rows)))
        return y.reshape(*x.shape[:-1], -1)
