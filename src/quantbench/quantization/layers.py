"""Modules of the simulation: layers whose weights live on a grid, and activation quantizers."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.errors import BadInput, Unsupported
from quantbench.network.layers import CONVOLUTIONS, Geometry, convolution
from quantbench.network.modules import Bounds
from quantbench.network.tracing import LayerInfo
from quantbench.quantization import conv3x3
from quantbench.quantization.grids import QParams
from quantbench.quantization.ranges import estimate
from quantbench.quantization.scheme import Grid

OBSERVED_VALUES = 2**20  # activation values kept per quantizer while its range is found


class ActQuant(nn.Module):
    """Fake quantization of one activation tensor.

    It passes values through until it is calibrated and enabled.

    ``scale`` is a parameter so that a method may learn it (LSQ); gradients reach it only if it
    requires them.
    """

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.enabled = False
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)
        self.zero: Tensor
        self.register_buffer("zero", torch.zeros(()))
        self.levels: tuple[int, ...] = ()
        self._sample: list[Tensor] | None = None

    @property
    def qparams(self) -> QParams:
        """Current grid parameters."""
        return QParams(self.scale, self.zero, self.levels)

    def set(self, qp: QParams) -> None:
        """Fix the grid and start quantizing."""
        self.scale.data, self.zero = qp.scale.detach().clone(), qp.zero.detach().clone()
        self.levels = qp.levels
        self.enabled = True

    def forward(self, x: Tensor) -> Tensor:
        """Quantize, observe, or pass through."""
        if self._sample is not None:
            self.note(x)
        return self.qparams.fake(x) if self.enabled else x

    def note(self, x: Tensor) -> None:
        """Keep some of the values, and their ends, while it observes."""
        assert self._sample is not None
        keep = OBSERVED_VALUES // 16
        stride = max(1, x.numel() // keep)
        # or only some columns and channels would be seen
        while math.gcd(stride, x.numel()) > 1:
            stride += 1
        flat = x.detach().reshape(-1)
        ends = flat.amin().reshape(1), flat.amax().reshape(1)
        self._sample.append(torch.cat([flat[::stride], *ends]))

    def observe(self) -> None:
        """Begin to keep samples; quantization is off meanwhile."""
        self._sample, self.enabled = [], False

    def finish(self) -> None:
        """Turn what was observed into a range and start quantizing; without data, stay off."""
        sample, self._sample = self._sample, None
        if sample:
            self.set(estimate(torch.cat(sample), self.grid))


# what the code of a network reads off its layers
_READ = (
    *("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation"),
    *("in_features", "out_features", "num_embeddings", "embedding_dim"),
)


class QuantLayer(nn.Module):
    """A convolution, linear or embedding layer whose weights live on a grid.

    An embedding's channels are its rows.

    Attributes:
        info: what the network knows of the layer.
        original: full-precision weight, (out, in/groups, ...); a method's target.
        weight: the weight that the forward pass uses; full precision until ``set_codes``.
        bias: (out,) in full precision.
        act: quantizer of the layer's input, or ``None``.
        activation: the activation function that follows: ``relu``, ``relu6``, bounds per channel
            that equalization made of one, or ``None``.
        codes: whole-number codes as int32, ``None`` until the layer is quantized.
        qparams: the grid the codes are on.
        geometry: of a convolution; ``None`` of other layers.

    """

    def __init__(self, layer: nn.Module, info: LayerInfo, act: ActQuant | None) -> None:
        super().__init__()
        self.info = info
        self.act = act
        self.activation: str | Bounds | None = info.activation
        if info.limits:
            self.activation = Bounds.alike(info.limits)
        self.op = _operator(layer)
        for name in _READ:
            if hasattr(layer, name):
                setattr(self, name, getattr(layer, name))
        weight = layer.weight
        assert isinstance(weight, Tensor)
        self.original: Tensor
        self.weight: Tensor
        self.register_buffer("original", weight.detach().clone())
        self.register_buffer("weight", weight.detach().clone())
        out = weight.shape[1 if isinstance(layer, nn.Embedding) else 0]
        bias = getattr(layer, "bias", None)
        self.bias = nn.Parameter(
            torch.zeros(out, device=weight.device) if bias is None else bias.detach().clone(),
            requires_grad=False,
        )
        self.codes: Tensor | None = None
        self.qparams: QParams | None = None
        self.groups = int(getattr(layer, "groups", 1))
        self.geometry = Geometry.of(layer)

    def forward(self, x: Tensor) -> Tensor:
        """Layer output with the current weight."""
        return self.run(x if self.act is None else self.act(x), self.weight)

    def run(self, x: Tensor, weight: Tensor) -> Tensor:
        """Layer output for given weights, input taken as it is."""
        return self.op(x, weight, self.bias)

    def joined(self, x: Tensor, add: Tensor | None = None, *, relu: bool) -> Tensor:
        """Layer output plus ``add``, through a ReLU if asked, for a layer that ``joins``."""
        x = x if self.act is None else self.act(x)
        return self.op(x, self.weight, self.bias, add, relu=relu)

    @property
    def joins(self) -> bool:
        """Whether a sum and a ReLU that follow may be computed with the layer.

        It saves passes over memory.
        """
        return self.op is conv3x3.conv3x3

    def set_codes(self, codes: Tensor, qp: QParams) -> None:
        """Put the layer on its grid."""
        # kernels differ in their last bits between memory layouts
        codes = codes.detach().round().contiguous()
        if not torch.isfinite(codes).all():
            raise BadInput(f"layer {self.info.name!r}: quantization produced NaN codes")
        self.codes = codes.to(torch.int32)
        self.qparams = QParams(qp.scale.detach(), qp.zero.detach(), qp.levels)
        self.weight = qp.dequantize(codes).detach()


def _operator(layer: nn.Module) -> Callable[..., Tensor]:
    """The layer's function of (input, weight, bias)."""
    if isinstance(layer, CONVOLUTIONS):
        if getattr(layer, "padding_mode", "zeros") != "zeros":
            raise Unsupported(f"convolution with padding mode {layer.padding_mode!r}")
        own = isinstance(layer, nn.Conv2d) and conv3x3.fits(layer)
        return conv3x3.conv3x3 if own else convolution(layer)
    if isinstance(layer, nn.Linear):
        return F.linear
    if isinstance(layer, nn.Embedding):
        return _look_up
    raise Unsupported(f"no quantized form of {type(layer).__name__}")


def _look_up(index: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Rows of a table."""
    return F.embedding(index, weight) + bias
