"""Every integer network of the suite on its evaluation images, on every executor.

``pytest -c bench/pytest.ini bench/test_exact.py -s [-k EXPR] [--qb-from N] [--qb-images N]
[--qb-oracle N]``. The oracle is NumPy on whole numbers, some ten times slower than the kernels;
``--qb-oracle`` is the number of images that it sees, and ``--qb-from`` with ``--qb-images`` splits
a set into pieces. ``--qb-threads`` is the native kernels'.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
from torch import Tensor

from quantbench.claims.claim import Claim
from quantbench.errors import DataMissing, Unsupported
from quantbench.integer import store
from quantbench.integer.backends.base import Array
from quantbench.integer.ir import Program
from quantbench.integer.lowering.lower import lower
from quantbench.integer.testing.audit import EXACT, OURS, audit, lines
from quantbench.methods.apot import APoT
from quantbench.methods.nearest import Nearest
from quantbench.quantization.scheme import Grid, Scheme
from quantbench.report.bench import Bench

BATCH = 10  # images a pass: all tensors of a pass are kept
CALIBRATION = 64
# images a pass, and for calibration, of networks whose images are large
LARGE = {"voc/deeplabv3-mobilenetv2": (1, 4), "coco/nanodet-m-416": (2, 8)}
# networks trained on additive powers of two, with thresholds of their own
RELEASED = ("-w4a4", "-w3a3", "-w2a2")
SCHEMES = {
    "w8a8": (Grid(8, per_channel=True, range="minmax"), Grid(8, range="minmax")),
    "w4a8": (Grid(4, per_channel=True), Grid(8, range="minmax")),
    "w4a4": (Grid(4, per_channel=True), Grid(4)),
    "w2a8": (Grid(2, symmetric=False, per_channel=True), Grid(8, symmetric=False, range="minmax")),
    "w8a8-tensor": (Grid(8, symmetric=False), Grid(8, symmetric=False)),
    "apot4": (Grid(4, "apot", range="mse"), Grid(4, "apot", symmetric=False, range="mse")),
    "apot3": (Grid(3, "apot", range="mse"), Grid(3, "apot", symmetric=False, range="mse")),
    "apot2": (Grid(2, "apot", range="mse"), Grid(2, "apot", symmetric=False, range="mse")),
}
NETWORKS = {
    "shapes/resnet8": ("w8a8", "w4a4", "w2a8", "w8a8-tensor"),
    "shapes/mobilenet": ("w8a8", "w4a8", "w8a8-tensor"),
    "cifar10/resnet20": ("w8a8", "w4a8", "w4a4", "w2a8", "w8a8-tensor"),
    "cifar10/resnet56": ("w8a8", "w4a4"),
    "cifar10/resnet20-apot": ("apot4", "w8a8"),
    "cifar10/resnet20-apot-w4a4": ("apot4",),
    "cifar10/resnet20-apot-w3a3": ("apot3",),
    "cifar10/resnet20-apot-w2a2": ("apot2",),
    "imagenet/mobilenetv1-0.25": ("w8a8", "w4a8", "w8a8-tensor"),
    "imagenet/mobilenetv1-1.0": ("w8a8", "w4a8", "w8a8-tensor"),
    "imagenet/mobilenetv2-1.0": ("w8a8", "w4a8", "w8a8-tensor"),
    "imagenet/efficientnet-lite0": ("w8a8", "w4a8", "w8a8-tensor"),
    "imagenet/googlenet-bvlc": ("w8a8", "w4a8", "w4a4"),
    "voc/deeplabv3-mobilenetv2": ("w8a8", "w4a8"),
    "coco/nanodet-m-416": ("w8a8", "w4a8"),
}


@pytest.mark.parametrize(
    ("model", "scheme"), [(m, s) for m, schemes in NETWORKS.items() for s in schemes]
)
def test_no_code_differs(model: str, scheme: str, request: pytest.FixtureRequest) -> None:
    """The oracle and the native kernels must give every code of the simulation.

    The others are measured.
    """
    from quantbench.models.catalog import spec
    from quantbench.quantization.method import quantize
    from quantbench.tasks.registry import task

    about = spec(model)
    weights, acts = SCHEMES[scheme]
    try:
        here = task(model, about.eval_data)
        net = here.network()
        _, few = LARGE.get(model, (BATCH, CALIBRATION))
        calibration = here.calibration(about.calib_data, few, 0)
    except DataMissing as e:
        pytest.skip(str(e))
    what = Scheme(weights, acts, placement="integer", first_last_bits=8 if acts.bits < 8 else None)
    method = APoT(epochs=0) if model.endswith(RELEASED) else Nearest()
    _audit(lower(quantize(method, net, calibration, what)), model, about.eval_data, scheme, request)


def test_no_code_differs_in_a_claims_network(
    integer_claim: Claim, quantbench: Bench, request: pytest.FixtureRequest
) -> None:
    """The same of the saved network of every integer claim, whatever its method."""
    try:
        cell = next(iter(quantbench.lab.cells(integer_claim)[0].values()))
        quantbench.lab.result(cell)
        path = quantbench.lab.program(cell)
    except (DataMissing, Unsupported) as e:
        pytest.skip(str(e))
    if not path.exists():
        pytest.skip(f"{cell.id} has parts in floats, so that its network is not saved")
    _audit(store.load(path), cell.model, cell.eval_data, integer_claim.id, request)


def _audit(
    program: Program, model: str, data: str, title: str, request: pytest.FixtureRequest
) -> None:
    """Compare, print, and fail on any difference of ours."""
    option = request.config.getoption
    names = (*EXACT, *option("qb_backends").split(",")) if option("qb_backends") else EXACT
    batches = _batches(model, data, option("qb_from"), option("qb_images"))
    threads = option("qb_threads") or os.cpu_count() or 1
    found = audit(program, batches, names, oracle=option("qb_oracle"), threads=threads)
    print("\n" + "\n".join(lines(f"{model} {title}", found)))
    for name in OURS:
        if name in found:
            assert found[name].images > 0
            assert found[name].different == 0, f"{name} differs from {found[name].first} on"


def _batches(model: str, data: str, first: int, count: int) -> Iterator[Array]:
    """Preprocessed images, a few at a time."""
    from quantbench.data.images import images
    from quantbench.models.catalog import spec
    from quantbench.tasks.detection import coco, one_stage

    about = spec(model)
    if model in one_stage.MODELS:  # images of several sizes, not an array
        found = coco.read(data)
        total = len(found.ids)

        def batch(part: slice) -> Tensor:
            return one_stage.squares(found, found.ids[part], about.size, about.preprocess)[0]
    else:
        x = images(data).x
        total = len(x)

        def batch(part: slice) -> Tensor:
            return about.preprocess(x[part])

    end = min(first + count, total) if count else total
    size, _ = LARGE.get(model, (BATCH, CALIBRATION))
    for start in range(first, end, size):
        yield np.ascontiguousarray(batch(slice(start, min(start + size, end))).numpy())
