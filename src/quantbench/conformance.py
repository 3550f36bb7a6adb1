"""Checks that every method must pass; plugin authors call :func:`check` in a test of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields, is_dataclass

import torch
from torch import nn

from quantbench.errors import BadInput, Unsupported
from quantbench.network.network import Network
from quantbench.quantization.method import Method, quantize
from quantbench.quantization.scheme import Grid, Scheme

SCHEMES = (
    Scheme(Grid(4)),
    Scheme(Grid(4, per_channel=True), Grid(8, symmetric=False, range="minmax")),
    Scheme(Grid(8), Grid(8, symmetric=False, range="minmax"), placement="integer"),
)


def small_network(seed: int = 0) -> tuple[Network, torch.Tensor]:
    """A residual network with batch norm and 16 calibration examples, random but fixed."""
    from quantbench.models.cifar_resnet import CifarResNet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, x = CifarResNet(8), torch.randn(16, 3, 32, 32)
    blocks = [n for n, m in model.named_modules() if type(m).__name__ == "BasicBlock"]
    return Network.of(model.eval(), x[:2], name="conformance", blocks=blocks), x


def check(method: Method) -> None:
    """Run every check; the first that fails raises AssertionError saying what is expected.

    Args:
        method: configured to be quick, for instance with few iterations.

    """
    for failure in failures(method):
        raise AssertionError(f"{method.name}: {failure}")


def failures(method: Method) -> Iterator[str]:
    """What the method does wrong."""
    yield from _value(method)
    net, x = small_network()
    ran = 0
    for scheme in SCHEMES:
        if method.unsupported(net, scheme):
            continue
        ran += 1
        yield from _runs(method, net, x, scheme)
    if not ran:
        yield "supports none of the schemes " + ", ".join(map(str, SCHEMES))
    try:
        quantize(method, net, x[:0], SCHEMES[0])
        yield "an empty calibration set must raise BadInput"
    except (BadInput, Unsupported):
        pass


def _value(method: Method) -> Iterator[str]:
    """A method is a frozen dataclass with a name and a documented class."""
    if not is_dataclass(method):
        yield "must be a dataclass"
        return
    for field in fields(method):
        try:
            setattr(method, field.name, getattr(method, field.name))
            yield "must be frozen: @dataclass(frozen=True)"
        except FrozenInstanceError:
            break
    if not type(method).__doc__:
        yield "needs a docstring: quantbench show prints it"
    hash(method)


def _runs(method: Method, net: Network, x: torch.Tensor, scheme: Scheme) -> Iterator[str]:
    """Deterministic, on the grid, without side effects."""
    weights, state = net.digest, torch.random.get_rng_state()
    first, second = (quantize(method, net, x, scheme, seed=1) for _ in range(2))
    if first.digest != second.digest:
        yield f"the same seed must give the same bits under {scheme}: draw from job.rng only"
    if not torch.equal(state, torch.random.get_rng_state()):
        yield "must not touch torch's global generator: use job.rng"
    if net.digest != weights:
        yield "must not modify job.net"
    for layer in first.layers():
        if layer.codes is None or layer.qparams is None:
            yield f"left layer {layer.info.name} without codes"
            return
        allowed = torch.tensor(layer.qparams.levels)
        if not bool(torch.isin(layer.codes, allowed).all()):
            yield f"put codes outside the levels of layer {layer.info.name}"
        levels = first.weight_grid(layer.info.name).bits
        if len(layer.qparams.levels) > 2**levels:
            yield f"gave layer {layer.info.name} more than {levels} bits"
    model = first.fake()
    assert isinstance(model, nn.Module)
    if not bool(torch.isfinite(model(x)).all()):
        yield f"gives NaN or infinite outputs under {scheme}"
