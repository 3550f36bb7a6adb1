"""Ranges of weights, and rounding to the nearest level of them."""

from __future__ import annotations

from dataclasses import replace

import torch

from quantbench.calibration.layer_moments import BATCH, gram
from quantbench.network.hooks import batches, capture_input
from quantbench.network.network import Network
from quantbench.quantization.grids import QParams
from quantbench.quantization.layers import QuantLayer
from quantbench.quantization.quantized import Quantized
from quantbench.quantization.ranges import estimate
from quantbench.quantization.scheme import Scheme
from quantbench.system.tensors import Inputs


def weight_range(q: Quantized, layer: QuantLayer, calib: Inputs) -> QParams:
    """Range of a layer's weights by its grid's estimator.

    Input statistics are gathered only where it needs them.
    """
    grid = q.weight_grid(layer.info.name)
    if grid.range != "output_mse":
        return estimate(layer.original, grid)
    if layer.info.kind == "embedding":  # whose output is its weight
        return estimate(layer.original, replace(grid, range="mse"))
    h = torch.zeros(())
    with q.full_precision_acts():
        for part in batches(calib, BATCH):
            h = h + gram(layer, capture_input(q.net.model, layer.info.name, part)[0]) * len(part[0])
    return estimate(layer.original, grid, gram=h / len(calib[0]))


def round_to_nearest(q: Quantized, layer: QuantLayer, calib: Inputs) -> None:
    """Put a layer on its grid, each weight at the nearest level."""
    qp = weight_range(q, layer, calib)
    layer.set_codes(qp.quantize(layer.original), qp)


def learnt_layers(q: Quantized, calib: Inputs) -> list[QuantLayer]:
    """Layers whose rounding can be learnt, in execution order.

    Tables of embeddings are put on their grids here.

    One row of a table is looked up at a time, so that ||(W - Q(W)) x||^2 is a sum over single
    weights, with nearest as its optimum: nothing is left to learn.
    """
    learnt = []
    for layer in q.layers():
        if layer.info.kind == "embedding":
            round_to_nearest(q, layer, calib)
        else:
            learnt.append(layer)
    return learnt


def nearest_network(net: Network, calib: Inputs, scheme: Scheme) -> Quantized:
    """A network with every weight at the nearest level: the least that can be done."""
    q = Quantized(net, scheme)
    for layer in q.layers():
        round_to_nearest(q, layer, calib)
    q.calibrate_acts(calib)
    return q
