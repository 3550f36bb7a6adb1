"""int8 matrix products of torch, ``torch._int_mm``: the backend for a GPU, exact on every device.

A convolution is one product of int8 matrices with int32 sums: a row a window of the input, a column
an output. Three things make it fit. Codes are uint8, so that a shift s is subtracted, which brings
lo..hi into int8; then

    acc = sum (x - s) * v + (s - z_x) * sum v + bias,

where |x - s| <= max |x - z_x|, so that no sum can leave int32 where the definition's cannot. Values
v of 9 or 10 bits (int8 codes with a zero point) are sums of two or three int8 values of one sign, a
product each. And what CUDA asks of sizes is met by rows and columns of zeros. Grouped convolutions
are no such product: they run as the simulation's. The other operators are the simulation's too,
except that floats without integer form stay on the processor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from quantbench.integer.backends.base import Backend, Compiled
from quantbench.integer.backends.simulation import SimulatedProgram
from quantbench.integer.exact import ExactConv, Requant
from quantbench.integer.ir import Conv, Format, Program
from quantbench.integer.scales import known
from quantbench.integer.simulate import Layer, Simulation

# CUDA multiplies more than 16 rows; columns, and terms of a sum, in multiples of 8
ROWS, UNIT = 24, 8

# rows, terms and columns of the products that are tried
PROBES = ((24, 8, 8), (40, 72, 16), (104, 1152, 64))


class IntMM(Backend):
    """``torch._int_mm`` behind the common interface.

    Args:
        device: where to run; by default CUDA where torch has it, else the processor.

    """

    name = "intmm"

    def __init__(self, device: torch.device | str | None = None) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def available(self) -> str | None:
        """Torch must have the operator and the device, and be exact on products of extremes."""
        if not hasattr(torch, "_int_mm"):
            return "this torch has no _int_mm"
        try:
            wrong = [p for p in PROBES if not _exact(*p, self.device)]
        except (RuntimeError, AssertionError, NotImplementedError) as e:
            # whatever a build without the device raises
            return f"torch._int_mm does not run on {self.device}: {str(e).splitlines()[0]}"
        return f"torch._int_mm is not exact on {self.device}: sizes {wrong}" if wrong else None

    def compile(self, program: Program, *, threads: int = 1) -> Compiled:
        """Lay weights out as matrices."""
        return SimulatedProgram(Simulation(program, self.device, conv), threads)


def conv(op: Conv, formats: list[Format | None], device: torch.device) -> Layer:
    """A product where the convolution is one, else the simulation's convolution."""
    return ExactConv.of(op, formats, device) if op.groups > 1 else Gemm.of(op, formats, device)


@dataclass(frozen=True, eq=False)
class Gemm:
    """One convolution as matrix products.

    Attributes:
        shift: subtracted from codes.
        parts: int8 (terms, outputs), filled up to multiples of 8; their sum is the weight.
        start: int32 (outputs,), what does not depend on the input.

    """

    op: Conv
    x: Format
    shift: int
    parts: tuple[Tensor, ...]
    start: Tensor
    requant: Requant

    @classmethod
    def of(cls, op: Conv, formats: list[Format | None], device: torch.device) -> Gemm:
        """Choose the shift, and cut weights into parts."""
        inputs = [known(f) for f in formats]
        x = inputs[0]
        shift = min(max(x.zero, x.hi - 127), x.lo + 128)
        v = op.weight.astype(np.int64) - op.weight_zero.astype(np.int64)[:, None, None, None]
        # terms in the order of a window's memory: row, column, channel
        v = v.transpose(0, 2, 3, 1).reshape(len(v), -1)
        start = (shift - x.zero) * v.sum(1) + op.bias
        parts: list[Tensor] = []
        while not parts or v.any():
            part = v.clip(-128, 127)
            matrix = torch.from_numpy(part.astype(np.int8))
            parts.append(F.pad(matrix, (0, -v.shape[1] % UNIT, 0, -len(v) % UNIT)).to(device).t())
            v = v - part
        constant = torch.from_numpy(start.astype(np.int32)).to(device)
        return cls(op, x, shift, tuple(parts), constant, Requant.of(op, inputs, device))

    def run(self, inputs: list[Tensor]) -> Tensor:
        """Codes, or float32 logits."""
        windows = self._windows(inputs[0])
        count, terms = windows.shape[:3].numel(), windows.shape[3:].numel()
        zeros = (0, -terms % UNIT, 0, max(ROWS - count, -count % UNIT))  # columns, then rows
        rows = F.pad(windows.reshape(count, terms), zeros)
        sums = [_product(rows, part)[:count, : len(self.start)] for part in self.parts]
        acc = (sum(sums[1:], sums[0]) + self.start).view(*windows.shape[:3], len(self.start))
        return self.requant.run(acc.permute(0, 3, 1, 2), inputs)

    def _windows(self, x: Tensor) -> Tensor:
        """int8 (N, OH, OW, kh, kw, C): shifted codes under every output.

        A view: the step from one output to the next, and from one tap of a window to the next, are
        strides of the padded input, so that windows overlap in memory and nothing is copied.
        """
        top, left, bottom, right = self.op.pads
        (sy, sx), (dy, dx) = self.op.stride, self.op.dilation
        kh, kw = self.op.weight.shape[2:]
        # uint8 wraps: the same 8 bits
        codes = (x.permute(0, 2, 3, 1).contiguous() - self.shift).view(torch.int8)
        codes = F.pad(codes, (0, 0, left, right, top, bottom), value=self.x.zero - self.shift)
        n, h, w, c = codes.shape
        size = (n, (h - (kh - 1) * dy - 1) // sy + 1, (w - (kw - 1) * dx - 1) // sx + 1, kh, kw, c)
        image, row, pixel, _ = codes.stride()
        return codes.as_strided(size, (image, sy * row, sx * pixel, dy * row, dx * pixel, 1))


def _product(rows: Tensor, columns: Tensor) -> Tensor:
    """int32 (rows, columns) of int8 (rows, terms) and (terms, columns)."""
    return torch._int_mm(rows, columns)  # noqa: SLF001 - torch has no other int8 product


def _exact(rows: int, terms: int, columns: int, device: torch.device) -> bool:
    """Whether products of a pattern and of the lowest codes (where short sums saturate) hold."""
    size = terms * (rows + columns)
    for values in (np.full(size, -128), np.arange(size) * 37 % 256 - 128):
        a, b = np.split(values, [rows * terms])
        a, b = a.reshape(rows, terms), b.reshape(columns, terms)
        left, right = (torch.from_numpy(m.astype(np.int8)).to(device) for m in (a, b))
        if not np.array_equal(_product(left, right.t()).cpu().numpy(), a @ b.T):
            return False
    return True
