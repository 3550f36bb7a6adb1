"""The result of a method: integer codes, scales, zero points, biases, and the simulation that they define."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.capture import forward
from quantbench.errors import BadInput, Unsupported
from quantbench.grids import QParams
from quantbench.network import Inputs, LayerInfo, Network, tensor_digest
from quantbench.ranges import estimate
from quantbench.scheme import Grid, Scheme

OBSERVED_VALUES = 2**20  # activation values kept per quantizer while its range is found


class ActQuant(nn.Module):
    """Fake quantization of one activation tensor; passes values through until it is calibrated and enabled.

    ``scale`` is a parameter so that a method may learn it (LSQ); gradients reach it only if it requires them.
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
        self.scale.data, self.zero, self.levels = qp.scale.detach().clone(), qp.zero.detach().clone(), qp.levels
        self.enabled = True

    def forward(self, x: Tensor) -> Tensor:
        """Quantize, observe, or pass through."""
        if self._sample is not None:
            keep = OBSERVED_VALUES // 16
            stride = max(1, x.numel() // keep)
            flat = x.detach().reshape(-1)
            self._sample.append(torch.cat([flat[::stride], flat.amin().reshape(1), flat.amax().reshape(1)]))
        return self.qparams.fake(x) if self.enabled else x

    def observe(self) -> None:
        """Begin to keep samples; quantization is off meanwhile."""
        self._sample, self.enabled = [], False

    def finish(self) -> None:
        """Turn what was observed into a range and start quantizing."""
        if not self._sample:
            raise BadInput("an activation quantizer saw no data: the calibration set is empty or the layer never ran")
        sample, self._sample = torch.cat(self._sample), None
        self.set(estimate(sample, self.grid))


class QuantLayer(nn.Module):
    """A convolution or linear layer whose weights live on a grid.

    Attributes:
        info: what the network knows of the layer.
        original: full-precision weight, (out, in/groups, ...); a method's target.
        weight: the weight that the forward pass uses; full precision until ``set_codes``.
        bias: (out,) in full precision.
        act: quantizer of the layer's input, or ``None``.
        codes: whole-number codes as int32, ``None`` until the layer is quantized.
        qparams: the grid the codes are on.

    """

    def __init__(self, layer: nn.Module, info: LayerInfo, act: ActQuant | None) -> None:
        super().__init__()
        self.info = info
        self.act = act
        self.op = _operator(layer)
        weight = layer.weight
        assert isinstance(weight, Tensor)
        self.original: Tensor
        self.weight: Tensor
        self.register_buffer("original", weight.detach().clone())
        self.register_buffer("weight", weight.detach().clone())
        out = weight.shape[0]
        bias = getattr(layer, "bias", None)
        self.bias = nn.Parameter(
            torch.zeros(out, device=weight.device) if bias is None else bias.detach().clone(), requires_grad=False
        )
        self.codes: Tensor | None = None
        self.qparams: QParams | None = None
        self.groups = int(getattr(layer, "groups", 1))
        self.geometry = {
            k: getattr(layer, k) for k in ("kernel_size", "stride", "padding", "dilation") if hasattr(layer, k)
        }

    def forward(self, x: Tensor) -> Tensor:
        """Layer output with the current weight."""
        return self.run(x if self.act is None else self.act(x), self.weight)

    def run(self, x: Tensor, weight: Tensor) -> Tensor:
        """Layer output for given weights, input taken as it is."""
        return self.op(x, weight, self.bias)

    def set_codes(self, codes: Tensor, qp: QParams) -> None:
        """Put the layer on its grid."""
        codes = codes.detach().round()
        if not torch.isfinite(codes).all():
            raise BadInput(f"layer {self.info.name!r}: quantization produced NaN codes")
        self.codes, self.qparams = codes.to(torch.int32), QParams(qp.scale.detach(), qp.zero.detach(), qp.levels)
        self.weight = qp.dequantize(codes).detach()


def _operator(layer: nn.Module) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The layer's function of (input, weight, bias)."""
    if isinstance(layer, nn.Conv2d):
        if layer.padding_mode != "zeros":
            raise Unsupported(f"convolution with padding mode {layer.padding_mode!r}")
        return partial(
            F.conv2d, stride=layer.stride, padding=layer.padding, dilation=layer.dilation, groups=layer.groups
        )
    if isinstance(layer, nn.Linear):
        return F.linear
    raise Unsupported(f"no quantized form of {type(layer).__name__}")


class Quantized:
    """A network on its way to, or at, low bits.

    Attributes:
        net: the full-precision network it came from.
        scheme: what was asked for.
        model: the simulation, a module with the same submodule names as ``net.model``.

    """

    def __init__(self, net: Network, scheme: Scheme) -> None:
        """All layers in place, still in full precision; activation quantizers off.

        Raises:
            Unsupported: a layer that modules share, which cannot have two ranges.

        """
        self.net, self.scheme = net, scheme
        self.model = copy.deepcopy(net.model)
        self.infos = net.layers if scheme.which == "all" else net.layers[:1]
        for info in self.infos:
            if info.calls > 1:
                raise Unsupported(
                    f"layer {info.name!r} runs {info.calls} times in one pass: shared layers are not quantized"
                )
            grid = scheme.act_grid(info.name, edge=info.name in net.edges) if scheme.placement == "inputs" else None
            parent, _, leaf = info.name.rpartition(".")
            layer = QuantLayer(net.model.get_submodule(info.name), info, ActQuant(grid) if grid else None)
            setattr(self.model.get_submodule(parent), leaf, layer)
        if scheme.placement == "integer":
            from quantbench.integer.place import place

            place(self)
        self.model.eval()

    def layer(self, name: str) -> QuantLayer:
        """One quantized layer."""
        layer = self.model.get_submodule(name)
        assert isinstance(layer, QuantLayer)
        return layer

    def layers(self) -> Iterator[QuantLayer]:
        """All layers that the scheme quantizes, in execution order."""
        return (self.layer(info.name) for info in self.infos)

    def act_quants(self) -> dict[str, ActQuant]:
        """All activation quantizers by module name."""
        return {n: m for n, m in self.model.named_modules() if isinstance(m, ActQuant)}

    def weight_grid(self, name: str) -> Grid:
        """Grid of one layer's weights."""
        return self.scheme.weight_grid(name, edge=name in self.net.edges)

    def calibrate_acts(self, inputs: Inputs, *, batch_size: int = 64) -> None:
        """Find every activation range on the current simulation with activations in full precision."""
        quants = self.act_quants().values()
        if not quants:
            return
        for q in quants:
            q.observe()
        with torch.no_grad():
            forward(self.model, inputs, batch_size=batch_size)
        for q in quants:
            q.finish()

    @contextmanager
    def full_precision_acts(self) -> Iterator[None]:
        """Activation quantizers off inside the block."""
        was = {q: q.enabled for q in self.act_quants().values()}
        for q in was:
            q.enabled = False
        try:
            yield
        finally:
            for q, enabled in was.items():
                q.enabled = enabled

    def fake(self) -> nn.Module:
        """The simulation: ``model(*inputs)`` with quantized weights and activations in floating point."""
        self._check_complete()
        return self.model

    def integer(self) -> Any:
        """The integer network that the simulation stands for (see ``quantbench.integer``)."""
        from quantbench.integer.lower import lower

        self._check_complete()
        return lower(self)

    def _check_complete(self) -> None:
        """Every layer must have its codes."""
        missing = [layer.info.name for layer in self.layers() if layer.codes is None]
        if missing:
            raise BadInput(f"{self.net.name}: layers without codes: {', '.join(missing)}; the method did not finish")

    def tensors(self) -> dict[str, Tensor]:
        """Everything that defines the quantized network: codes, scales, zero points, biases, activation ranges."""
        out: dict[str, Tensor] = {}
        for layer in self.layers():
            assert layer.codes is not None
            assert layer.qparams is not None
            name = layer.info.name
            out |= {
                f"{name}.codes": layer.codes,
                f"{name}.scale": layer.qparams.scale,
                f"{name}.zero": layer.qparams.zero,
            }
            out[f"{name}.bias"] = layer.bias.detach()
        for name, q in self.act_quants().items():
            out |= {f"{name}.scale": q.scale.detach(), f"{name}.zero": q.zero}
        return out

    @property
    def digest(self) -> str:
        """Hash of codes, scales, zero points and biases: equal digests mean equal networks."""
        return tensor_digest(self.tensors())

    @property
    def bytes(self) -> int:
        """Size of the packed weights in bytes, biases as int32 and one float32 scale each."""
        bits = 0
        for layer in self.layers():
            grid = self.weight_grid(layer.info.name)
            assert layer.qparams is not None
            bits += layer.info.params * grid.bits + 32 * (layer.bias.numel() + layer.qparams.scale.numel())
        return bits // 8

    def save(self, folder: Path) -> None:
        """Write ``quantized.safetensors`` and ``quantized.json``."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous().cpu() for k, v in self.tensors().items()}, folder / "quantized.safetensors")
        levels = {layer.info.name: _levels(layer.qparams) for layer in self.layers()}
        acts = {name: _levels(q.qparams) for name, q in self.act_quants().items()}
        meta = {
            "network": self.net.name,
            "digest": self.digest,
            "scheme": asdict(self.scheme),
            "levels": levels,
            "acts": acts,
        }
        (folder / "quantized.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, net: Network, scheme: Scheme) -> Quantized:
        """Read what ``save`` wrote.

        Raises:
            BadInput: files that are damaged, or that belong to another network or scheme.

        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        q = cls(net, scheme)
        try:
            meta = json.loads((folder / "quantized.json").read_text(encoding="utf-8"))
            tensors = load_file(folder / "quantized.safetensors")
            for layer in q.layers():
                name = layer.info.name
                levels = tuple(meta["levels"][name])
                if tensors[f"{name}.codes"].shape != layer.original.shape:
                    raise BadInput(f"{folder}: {name}.codes has the wrong shape for {net.name}")
                qp = QParams(tensors[f"{name}.scale"], tensors[f"{name}.zero"], levels)
                layer.set_codes(tensors[f"{name}.codes"].float(), qp)
                layer.bias.data = tensors[f"{name}.bias"]
            for name, act in q.act_quants().items():
                act.set(QParams(tensors[f"{name}.scale"], tensors[f"{name}.zero"], tuple(meta["acts"][name])))
        except (KeyError, TypeError, ValueError, SafetensorError, OSError) as e:
            raise BadInput(f"{folder}: not a saved quantized network for {net.name} under {scheme}: {e}") from e
        if q.digest != meta["digest"]:
            raise BadInput(f"{folder}: contents do not match their digest; the files were damaged or changed")
        return q


def _levels(qp: QParams | None) -> list[int]:
    """Codes as plain numbers."""
    return list(qp.levels) if qp else []
