"""A quantized network as an integer program."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from quantbench.errors import BadInput, Unsupported
from quantbench.integer import ir
from quantbench.integer.lowering.agreement import require_agreement
from quantbench.integer.lowering.distance import require_near
from quantbench.integer.lowering.emit import Lowering, NotQuantized
from quantbench.integer.simulate import Simulation
from quantbench.integer.validate import validate
from quantbench.quantization.placement.graph import record_operators
from quantbench.quantization.placement.place import Graph
from quantbench.quantization.quantized import Quantized


def lower(q: Quantized) -> ir.Program:
    """The integer program of a network that was quantized under an ``integer`` placement.

    Raises:
        Unsupported: another placement, an operator whose numbers have no integer form, or a program
            that is another function than the simulation.
        BadInput: layers without codes, or ranges that were never calibrated.

    Warns:
        UserWarning: the program's output is far from the float network's on its sample, though
            every grid has at least 8 bits; names the first tensor that is.

    """
    if not isinstance(q, Quantized):
        raise BadInput(f"a quantized network is needed, not {type(q).__name__}: give qb.quantize's")
    q.require_complete()
    if q.scheme.placement != "integer":
        raise Unsupported(
            f"scheme {q.scheme} quantizes the layers' inputs alone: only a network with "
            "placement='integer', where residual adds, concatenations and pools are quantized too, "
            "runs on integers"
        )
    (sample,) = q.net.sample
    program = _lowered(q, sample[:1])
    validate(program)
    require_near(program, q, require_agreement(program, q))
    return program


def _lowered(q: Quantized, sample: Tensor) -> ir.Program:
    """A module with a result inside that has no quantizer (``place``) is an island as a whole."""
    opaque: dict[nn.Module, str] = {}
    while True:
        with q.full_precision_acts():
            graph = Graph(record_operators(q.model, sample, opaque).nodes)
        try:
            return Lowering(graph).program()
        except NotQuantized as e:
            module = q.model.get_submodule(e.node.container)
            if not e.node.container or module in opaque:
                raise
            opaque[module] = f"{type(module).__name__}: what {e.node.name} in it gives has no codes"


def executable(q: Quantized) -> Callable[..., Tensor]:
    """What evaluation runs: the integer form for ``integer`` placement, else the simulation.

    Its output has the shape of the network's: a program itself gives (N, outputs). It
    raises BadInput for inputs of another shape than the sample's.
    """
    if q.scheme.placement != "integer":
        return q.fake()
    program = Simulation(lower(q), q.net.device)
    shape = q.net.sample_output.shape[1:]
    given, sample = program.program.shape, q.net.sample[0].shape[1:]

    def run(x: Tensor) -> Tensor:
        if not isinstance(x, Tensor) or x.shape[1:] != sample:
            found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise BadInput(f"the integer network takes tensors (N, *{tuple(sample)}), not {found}")
        return program(x.reshape(len(x), *given)).reshape(len(x), *shape)

    return run
