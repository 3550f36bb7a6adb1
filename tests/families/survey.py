"""What becomes of a network: simulated and run on integers at 8 bits, and exported."""

from __future__ import annotations

import time
import traceback
import warnings
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from quantbench.errors import QuantbenchError
from quantbench.integer.ir import Island, Program
from quantbench.integer.lowering.lower import executable, lower
from quantbench.integer.simulate import Simulation
from quantbench.methods.nearest import Nearest
from quantbench.network.network import Network
from quantbench.quantization.method import quantize
from quantbench.quantization.scheme import Grid, Scheme
from tests.families.zoo import Member, build, from_noise, images

W = Grid(8, per_channel=True)
A = Grid(8, symmetric=False, range="minmax")
FAKE, INTEGER = Scheme(W, A), Scheme(W, A, placement="integer")


NEAR = 0.1  # relative distance that 8 bits may cost without a second look

FINER = 13  # bits at which the same quantizers have 1/32 of the step


def finer(scheme: Scheme) -> Scheme:
    """The same with more bits than any grid may have: what is right comes closer with them."""
    grids = []
    for grid in (scheme.weights, scheme.acts):
        fine = replace(grid)
        object.__setattr__(fine, "bits", FINER)
        grids.append(fine)
    return replace(scheme, weights=grids[0], acts=grids[1])


@dataclass
class Row:
    """One line of the table.

    Attributes:
        label: the network.
        fake: relative distance of the simulation's output from the float network's, or why not.
        integer: relative distance of the integer program's output, or why not.
        islands: calls that stay in floats, or None.
        onnx: relative distance of the exported file's output from the program's, or why not.
        seconds: of it all.
        errors: tracebacks of what is no refusal.

    """

    label: str
    fake: float | str = "not run"
    integer: float | str = "not run"
    islands: int | None = None
    ops: int | None = None
    onnx: float | str = "not run"
    seconds: float = 0.0
    unshared: bool = False
    errors: list[str] = field(default_factory=list)
    more: dict[str, float] = field(default_factory=dict)


def off(a: Tensor, b: Tensor) -> float:
    """Relative distance."""
    return float(((a - b).norm() / b.norm()).detach())


def look(member: Member) -> Row:
    """Everything of one network."""
    row, start = Row(member.label), time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            _look(member, row)
        except QuantbenchError as e:
            row.fake = f"refused: {e}"
        except Exception as e:
            row.fake = f"ERROR {type(e).__name__}: {e}"
            row.errors.append(traceback.format_exc())
    row.seconds = time.perf_counter() - start
    return row


def _look(member: Member, row: Row) -> None:
    model, side = build(member)
    from_noise(model, side)
    x = images(8, side, 3)
    held = x[2:4]  # within the ranges that were found, so that nothing is clipped
    net = Network.of(model, x[:2], name=member.label, output=member.output)
    if any(i.calls > 1 for i in net.layers) or len(_weights(net)) < len(net.layers):
        row.unshared = True
        net = Network.of(model, x[:2], name=member.label, output=member.output, unshared=True)
    with torch.no_grad():
        right = net.model(held)
        row.more["varies"] = off(right[:1], right[1:])
        row.fake = off(quantize(Nearest(), net, x, FAKE).fake()(held), right)
    if row.fake > NEAR:
        row.more["finer"] = off(quantize(Nearest(), net, x, finer(FAKE)).fake()(held), right)
    try:
        q = quantize(Nearest(), net, x, INTEGER)
        with torch.no_grad():
            row.more["placed"] = off(q.fake()(held), right)
        program = lower(q)
        row.islands = sum(isinstance(op, Island) for op in program.ops)
        row.ops = len(program.ops)
        row.more["reasons"] = [
            f"{op.name}: {op.reason}" for op in program.ops if isinstance(op, Island)
        ]
        found = executable(q)(held)
        row.integer = off(found, right)
        row.more["simulated"] = off(found, q.fake()(held))
        row.onnx = _onnx(program, held)
    except QuantbenchError as e:
        if isinstance(row.integer, str):
            row.integer = f"refused: {e}"
        else:
            row.onnx = f"refused: {e}"
    except Exception as e:
        row.integer = f"ERROR {type(e).__name__}: {e}"
        row.errors.append(traceback.format_exc())


def _weights(net: Network) -> set[int]:
    """Identities of the layers' weights."""
    return {id(net.model.get_submodule(i.name).weight) for i in net.layers}


def _onnx(program: Program, held: Tensor) -> float:
    import onnxruntime

    from quantbench.integer.backends.onnx_export import export

    options = onnxruntime.SessionOptions()
    # the file's own meaning: runtimes' kernels are another matter
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    model = export(program).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    given = held.reshape(len(held), *program.shape)
    (found,) = session.run(["logits"], {"images": given.numpy()})
    return off(torch.from_numpy(np.asarray(found)), Simulation(program)(given))
