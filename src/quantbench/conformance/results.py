"""Checks of one finished run; each gives what is wrong, in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from quantbench.conformance.families import tiny_network
from quantbench.conformance.observation import GENERATORS, Observation
from quantbench.errors import QuantbenchError
from quantbench.quantization import serialize
from quantbench.quantization.layers import ActQuant, QuantLayer
from quantbench.system.tensors import Inputs

FEWEST_WORDS = 4  # of a reason: "not supported" tells nobody what to do


def works_or_says_why(seen: Observation) -> Iterator[str]:
    """A whole network with finite outputs, or a reason that is a sentence."""
    q = seen.quantized
    if seen.error:
        yield f"must work, or raise Unsupported and say why; {seen.case} it raises {seen.error}"
    elif q is None:
        yield from no_reason(seen.refusal, str(seen.case))
    elif missing := [layer.info.name for layer in q.layers() if layer.codes is None]:
        yield f"left layers without codes {seen.case}: {', '.join(missing)}"
    elif not bool(torch.isfinite(_output(q.model, seen.calib)).all()):
        yield f"gives NaN or infinite outputs {seen.case}"


def no_reason(refusal: str, where: str) -> Iterator[str]:
    """A refusal that tells too little."""
    if len(refusal.split()) < FEWEST_WORDS:
        yield f"refuses {where} with {refusal!r}: say in a sentence what is missing"


def repeats(seen: Observation) -> Iterator[str]:
    """The same seed gives the same bits a second time."""
    if seen.quantized is not None and seen.case.run().digest != seen.quantized.digest:
        yield f"the same seed must give the same bits {seen.case}: draw from job.rng only"


def generators_untouched(seen: Observation) -> Iterator[str]:
    """The global generators of torch, numpy and Python are as they were."""
    for module in GENERATORS:
        if module in seen.changed:
            yield f"must not touch the global generator of {module} {seen.case}: use job.rng"


def network_unchanged(seen: Observation) -> Iterator[str]:
    """The network and the calibration set are as they were, to the bit."""
    for what in seen.changed:
        if what not in GENERATORS:
            yield f"must not change {what} ({seen.case})"


def on_grid(seen: Observation) -> Iterator[str]:
    """Codes are levels of their grids, and grids have the bits that the scheme gives them."""
    q = seen.quantized
    if q is None:
        return
    for layer in q.layers():
        for wrong in _layer(layer, q.weight_grid(layer.info.name).bits):
            yield f"{wrong} {seen.case}"
    for name, act in q.act_quants().items():
        for wrong in _activations(name, act):
            yield f"{wrong} {seen.case}"


def _layer(layer: QuantLayer, bits: int) -> Iterator[str]:
    name, qp = layer.info.name, layer.qparams
    assert layer.codes is not None
    assert qp is not None
    if not bool(torch.isin(layer.codes, torch.tensor(qp.levels)).all()):
        yield f"put codes outside the levels of layer {name}"
    if len(qp.levels) > 2**bits:
        yield f"gave layer {name} more than {bits} bits"
    if not bool((qp.scale > 0).all()):
        yield f"gave layer {name} a scale that is not positive"
    if not torch.equal(layer.weight, qp.dequantize(layer.codes.float())):
        yield f"gave layer {name} weights that its codes do not stand for"


def _activations(name: str, act: ActQuant) -> Iterator[str]:
    if not act.enabled:
        yield f"left the activation quantizer {name} without a range (q.calibrate_acts finds it)"
    elif len(act.levels) > 2**act.grid.bits:
        yield f"gave the activation quantizer {name} more than {act.grid.bits} bits"


def saves_and_loads(seen: Observation, folder: Path) -> Iterator[str]:
    """What is read back has the digest, which loading looks at, and the outputs, to the bit."""
    q = seen.quantized
    if q is None:
        return
    try:
        serialize.save(q, folder)
        found = serialize.load(folder, tiny_network(seen.case.family)[0], q.scheme)
    except QuantbenchError as e:
        yield f"cannot be saved and loaded {seen.case}: {e}"
        return
    if not torch.equal(_output(found.fake(), seen.calib), _output(q.fake(), seen.calib)):
        kept = "codes, ranges, biases and clamps are kept, nothing else"
        yield f"gives other outputs after save and load {seen.case}: {kept}"


@torch.no_grad()
def _output(model: nn.Module, inputs: Inputs) -> Tensor:
    """Of all examples at once."""
    found: Tensor = model(*inputs)
    return found
