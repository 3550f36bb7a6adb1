"""The result of a method: codes, scales, zero points, biases; the simulation they define."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from quantbench.errors import BadInput, Unsupported
from quantbench.network.activation_functions import clamped_layers, clamps
from quantbench.network.checks.same import require_same
from quantbench.network.hooks import forward
from quantbench.network.network import Network
from quantbench.network.tracing import LayerInfo
from quantbench.quantization.layers import ActQuant, QuantLayer
from quantbench.quantization.placement.place import place, place_operands
from quantbench.quantization.placement.simulated import SIMULATED, behind_layers
from quantbench.quantization.scheme import Grid, Scheme
from quantbench.system.tensors import Inputs, tensor_digest


class Quantized:
    """A network on its way to, or at, low bits.

    Attributes:
        net: the full-precision network it came from.
        scheme: what was asked for.
        model: the simulation, a module with the same submodule names as ``net.model``.
        behind: names of quantizers that take what one layer gives, after its activation function,
            by that of the layer; of placements ``outputs`` and ``shared`` only.

    """

    def __init__(self, net: Network, scheme: Scheme) -> None:
        """All layers in place, still in full precision; activation quantizers off.

        Raises:
            BadInput: an override of a layer that is not there.
            Unsupported: a layer, or its weights, that modules share, which cannot have two ranges;
                a placement that is not for it.

        """
        self.net, self.scheme = net, scheme
        self.model = copy.deepcopy(net.model)
        for override in scheme.overrides:
            net.layer(override.layer)
        self.infos = net.layers if scheme.which == "all" else net.layers[:1]
        _refuse_shared(net, self.infos)
        for info in self.infos:
            # an embedding's inputs are numbers of rows
            here = scheme.placement in ("inputs", "attention") and info.kind != "embedding"
            grid = scheme.act_grid(info.name, edge=info.name in net.edges) if here else None
            original, act = net.model.get_submodule(info.name), ActQuant(grid) if grid else None
            self.model.set_submodule(info.name, QuantLayer(original, info, act))
        for name, clamp in clamped_layers(net).items():
            if any(info.name == name for info in self.infos):
                self.layer(name).activation = clamp.bounds
        same = partial(require_same, original=net.model, inputs=net.sample)
        same(self.model, step=f"{net.name}: putting layers in", expected=net.sample_output)
        if scheme.placement == "attention":
            place_operands(self.model, net, scheme)
        if scheme.placement == "integer":
            self.model = place(self.model, net, scheme)
        self.behind: dict[str, str] = {}
        if scheme.placement in SIMULATED and scheme.acts:
            self.model = place(self.model, net, scheme, SIMULATED[scheme.placement])
            self.behind = behind_layers(self.model, net)
        if scheme.placement != "inputs":
            step = f"{net.name}: placing quantizers of activations"
            same(self.model, step=step, expected=net.sample_output)
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

    def calibrate_acts(
        self,
        inputs: Inputs,
        *,
        batch_size: int = 64,
        only_new: bool = False,
        in_turn: bool = False,
    ) -> None:
        """Find activation ranges on the current simulation while those quantizers are off.

        Args:
            inputs: calibration inputs.
            batch_size: examples per pass.
            only_new: keep the ranges that there are and find the missing ones.
            in_turn: find each range behind the quantizers that run before, in one pass of all the
                inputs, so that there should be few.

        """
        quants = [q for q in self.act_quants().values() if not (only_new and q.enabled)]
        if not quants:
            return
        if in_turn:
            _calibrate_in_turn(self.model, quants, inputs)
            return
        for q in quants:
            q.observe()
        with torch.no_grad():
            forward(self.model, inputs, batch_size=batch_size)
        for name, q in self.act_quants().items():
            if q in quants:
                try:
                    q.finish()
                except BadInput as e:
                    raise BadInput(f"{self.net.name}: activations of {name!r}: {e}") from e
        idle = [n for n, q in self.act_quants().items() if q in quants and not q.enabled]
        if idle:
            warnings.warn(
                f"{self.net.name}: no calibration example reaches {', '.join(idle[:4])}"
                f"{', ...' if len(idle) > 4 else ''}: activations there stay in full precision",
                stacklevel=2,
            )

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
        """The simulation ``model(*inputs)``: quantized weights and activations, in floats."""
        self.require_complete()
        return self.model

    def require_complete(self) -> None:
        """Refuse a network with layers that have no codes yet.

        Raises:
            BadInput: names them.

        """
        missing = [layer.info.name for layer in self.layers() if layer.codes is None]
        if missing:
            names = ", ".join(missing)
            raise BadInput(
                f"{self.net.name}: layers without codes: {names}; the method did not finish"
            )

    def tensors(self) -> dict[str, Tensor]:
        """Everything that defines it, by name.

        Codes, scales, zero points, biases, activation ranges, and bounds of clamps.
        """
        out: dict[str, Tensor] = {}
        for layer in self.layers():
            assert layer.codes is not None
            assert layer.qparams is not None
            name = layer.info.name
            out |= {
                f"{name}.codes": _narrow(layer.codes),
                f"{name}.scale": layer.qparams.scale,
                f"{name}.zero": layer.qparams.zero,
                f"{name}.levels": torch.tensor(layer.qparams.levels, dtype=torch.int32),
            }
            out[f"{name}.bias"] = layer.bias.detach()
        for name, q in self.act_quants().items():
            levels = torch.tensor(q.levels if q.enabled else (), dtype=torch.int32)
            out |= {
                f"{name}.scale": q.scale.detach(),
                f"{name}.zero": q.zero,
                f"{name}.levels": levels,
            }
        for name, clamp in clamps(self.model).items():
            out |= {f"{name}.low": clamp.low, f"{name}.high": clamp.high}
        return out

    @property
    def digest(self) -> str:
        """Hash of all that defines it: equal digests mean equal networks."""
        return tensor_digest(self.tensors())

    @property
    def bytes(self) -> int:
        """Size of the packed weights in bytes, biases as int32 and one float32 scale each."""
        bits = 0
        for layer in self.layers():
            grid = self.weight_grid(layer.info.name)
            assert layer.qparams is not None
            words = layer.bias.numel() + layer.qparams.scale.numel()
            bits += layer.info.params * grid.bits + 32 * words
        return bits // 8


@torch.no_grad()
def _calibrate_in_turn(model: nn.Module, quants: list[ActQuant], inputs: Inputs) -> None:
    """Each quantizer takes its range from what first reaches it, and quantizes from then on."""

    def calibrate(q: nn.Module, args: tuple[Tensor, ...]) -> None:
        assert isinstance(q, ActQuant)
        q.observe()
        q.note(args[0])
        q.finish()
        waiting.pop(q).remove()

    waiting = {q: q.register_forward_pre_hook(calibrate) for q in quants}
    for q in quants:
        q.enabled = False
    forward(model, inputs, batch_size=len(inputs[0]))
    for q in list(waiting):  # never reached
        waiting.pop(q).remove()
        q.observe()
        q.finish()


def _refuse_shared(net: Network, infos: Iterable[LayerInfo]) -> None:
    """Raise Unsupported for layers that run twice or share weights: they cannot have two ranges."""
    infos = tuple(infos)
    owners = _owners(net.model, {info.name for info in infos})
    for info in infos:
        if info.calls > 1:
            raise Unsupported(
                f"layer {info.name!r} runs {info.calls} times in one pass: "
                "shared layers are not quantized; Network.of(..., unshared=True) gives each use a "
                "layer of its own"
            )
        if len(names := owners[id(net.model.get_submodule(info.name).weight)]) > 1:
            others = ", ".join(map(repr, names[1:]))
            raise Unsupported(
                f"layer {names[0]!r} shares its weights with {others}: shared layers are not "
                "quantized; give each module weights of its own, or unshared=True to Network.of"
            )


def _narrow(codes: Tensor) -> Tensor:
    """Codes in the smallest integer type that holds them."""
    low, high = int(codes.min()), int(codes.max())
    for dtype in (torch.int8, torch.uint8, torch.int16):
        info = torch.iinfo(dtype)
        if info.min <= low and high <= info.max:
            return codes.to(dtype)
    return codes


def _owners(model: nn.Module, layers: set[str]) -> dict[int, list[str]]:
    """Names of the layers that have a weight, by the weight's identity; a module may have several.

    What else has that weight, such as an embedding table that stays as it is, does not change.
    """
    quantized = {model.get_submodule(name) for name in layers}
    found: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if module in quantized:
            found.setdefault(id(module.weight), []).append(name)
    return found
