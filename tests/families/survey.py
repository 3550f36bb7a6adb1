"""What becomes of a network: simulated and run on integers at 8 bits, and exported."""

from __future__ import annotations

import time
import traceback
import warnings
from dataclasses import dataclass, field, replace
from enum import Enum

import torch
from torch import Tensor

from quantbench.errors import QuantbenchError, Unsupported
from quantbench.integer.ir import Island, Program
from quantbench.integer.lowering.lower import lower
from quantbench.integer.simulate import Simulation
from quantbench.methods.nearest import Nearest
from quantbench.network.network import Network
from quantbench.quantization.method import quantize
from quantbench.quantization.scheme import Grid, Scheme
from tests.families.steps import farthest
from tests.families.zoo import Member, build, from_noise, images
from tests.network.whole_way import in_onnx_runtime

W = Grid(8, per_channel=True, range="minmax")
A = Grid(8, symmetric=False, range="minmax")
FAKE, INTEGER = Scheme(W, A), Scheme(W, A, placement="integer")


NEAR = 0.1  # relative distance that 8 bits may cost without a second look

CLOSER = 4  # times that a right output comes closer with finer grids

FINER = 13  # bits at which the same quantizers have 1/32 of the step


def finer(scheme: Scheme) -> Scheme:
    """The same with more bits than any grid may have: what is right comes closer with them."""
    grids = []
    for grid in (scheme.weights, scheme.acts):
        fine = replace(grid)
        object.__setattr__(fine, "bits", FINER)
        grids.append(fine)
    return replace(scheme, weights=grids[0], acts=grids[1])


class Verdict(Enum):
    """What a column says."""

    RIGHT = "right"
    REFUSED = "refused"
    WRONG = "wrong"


@dataclass
class Row:
    """One line of the table.

    Attributes:
        label: the network.
        fake: relative distance of the simulation's output from the float network's, or why not.
        integer: relative distance of the integer program's output, or why not.
        onnx: relative distance of the exported file's output from the program's, or why not.
        finer: that of the simulation with ``FINER`` bits, where 8 cost more than ``NEAR``.
        finer_placed: the same where everything is quantized that a program quantizes.
        onnx_alone: where the file is farther than ``near_in_onnx``, how far its farthest operator
            is by itself, on the inputs that it got, as a part of what roundings do at most.
        onnx_where: that operator.
        islands: parts of the program that stay in floats, or None.
        ops: all operators of the program.
        unshared: whether layers that are used several times were copied.
        seconds: of it all.
        reasons: why islands are islands.
        error: traceback of what is no refusal.

    """

    label: str
    fake: float | str = "not run"
    integer: float | str = "not run"
    onnx: float | str = "not run"
    finer: float | None = None
    finer_placed: float | None = None
    onnx_alone: float | None = None
    onnx_where: str = ""
    islands: int | None = None
    ops: int | None = None
    unshared: bool = False
    seconds: float = 0.0
    reasons: list[str] = field(default_factory=list)
    error: str = ""

    @property
    def near_in_onnx(self) -> float:
        """Up to where the exported file needs no second look."""
        return max(NEAR, float(self.integer))

    def verdict(self, column: str) -> Verdict:
        """Right, refused by name, or wrong: ``fake``, ``integer`` or ``onnx``."""
        value = getattr(self, column)
        if isinstance(value, str):
            refused = value.startswith("refused") or not self.error
            return Verdict.REFUSED if refused else Verdict.WRONG
        if column == "onnx":
            alone = self.onnx_alone is not None and self.onnx_alone <= 1
            return Verdict.RIGHT if value <= self.near_in_onnx or alone else Verdict.WRONG
        fine = self.finer if column == "fake" else self.finer_placed
        close = value <= NEAR or (fine is not None and CLOSER * fine < value)
        return Verdict.RIGHT if close else Verdict.WRONG


def off(a: Tensor, b: Tensor) -> float:
    """Relative distance."""
    return float(((a - b).norm() / b.norm()).detach())


def look(member: Member) -> Row:
    """Everything of one network."""
    row, start, column = Row(member.label), time.perf_counter(), "fake"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            net, x = _network(member, row)
            held = x[2:4]  # within the ranges that are found, so that nothing is clipped
            _simulate(net, x, held, row)
            column = "integer"
            program = _lower(net, x, held, row)
            column = "onnx"
            _onnx(program, held, row)
        except QuantbenchError as e:
            setattr(row, column, f"refused: {e}")
        except Exception as e:  # noqa: BLE001 - whatever a network raises is a finding
            setattr(row, column, f"{type(e).__name__}: {e}")
            row.error = traceback.format_exc()
    row.seconds = time.perf_counter() - start
    return row


def _network(member: Member, row: Row) -> tuple[Network, Tensor]:
    """The network and images; its layers unshared if need be."""
    model, side = build(member)
    from_noise(model, side)
    x = images(8, side, 3)
    given = {"name": member.label, "output": member.output}
    net = Network.of(model, x[:2], **given)
    if any(i.calls > 1 for i in net.layers) or len(_weights(net)) < len(net.layers):
        row.unshared = True
        net = Network.of(model, x[:2], **given, unshared=True)
    return net, x


@torch.no_grad()
def _simulate(net: Network, x: Tensor, held: Tensor, row: Row) -> None:
    right = net.model(held)
    row.fake = off(quantize(Nearest(), net, x, FAKE).fake()(held), right)
    if row.fake > NEAR:
        row.finer = off(quantize(Nearest(), net, x, finer(FAKE)).fake()(held), right)


@torch.no_grad()
def _lower(net: Network, x: Tensor, held: Tensor, row: Row) -> Program:
    q = quantize(Nearest(), net, x, INTEGER)
    program = lower(q)
    islands = [op for op in program.ops if isinstance(op, Island)]
    row.islands, row.ops = len(islands), len(program.ops)
    row.reasons = [f"{op.name}: {op.reason}" for op in islands]
    found = Simulation(program)(held.reshape(len(held), *program.shape))
    right = net.model(held).flatten(1)
    row.integer = off(found, right)
    if row.integer > NEAR:
        fine = quantize(Nearest(), net, x, finer(INTEGER)).fake()
        row.finer_placed = off(fine(held).flatten(1), right)
    return program


def _weights(net: Network) -> set[int]:
    """Identities of the layers' weights."""
    return {id(net.model.get_submodule(i.name).weight) for i in net.layers}


def _onnx(program: Program, held: Tensor, row: Row) -> None:
    try:
        import onnx  # noqa: F401 - what the export needs
        import onnxruntime  # noqa: F401
    except ImportError as e:
        raise Unsupported(f"{e.name} is not installed") from e
    from quantbench.integer.backends.onnx.export import export

    given = held.reshape(len(held), *program.shape)
    # without rewriting: the file's own meaning, runtimes' kernels are another matter
    found = in_onnx_runtime(export(program).SerializeToString(), given)["logits"]
    row.onnx = off(found, Simulation(program)(given))
    if row.onnx > row.near_in_onnx:
        shown = in_onnx_runtime(export(program, show=True).SerializeToString(), given)
        row.onnx_alone, row.onnx_where = farthest(program, shown)
