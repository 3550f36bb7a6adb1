"""Every integer network of the suite on its evaluation images: simulation, oracle, native and the other runtimes.

``pytest -c bench/pytest.ini bench/test_exact.py -s [-k EXPR] [--qb-images N] [--qb-oracle N]``. The oracle is NumPy on
whole numbers, and slow on large networks; ``--qb-oracle`` is the number of images that it sees.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from quantbench.methods.nearest import Nearest

from quantbench.errors import DataMissing
from quantbench.integer.audit import EXACT, audit, lines
from quantbench.integer.backends import Array
from quantbench.scheme import Grid, Scheme

BATCH = 20  # images a pass: all tensors of a pass are kept
CALIBRATION = 64
SCHEMES = {
    "w8a8": (Grid(8, per_channel=True, range="minmax"), Grid(8, range="minmax")),
    "w4a8": (Grid(4, per_channel=True), Grid(8, range="minmax")),
    "w4a4": (Grid(4, per_channel=True), Grid(4)),
    "w2a8": (Grid(2, symmetric=False, per_channel=True), Grid(8, symmetric=False, range="minmax")),
    "w8a8-tensor": (Grid(8, symmetric=False), Grid(8, symmetric=False)),
    "apot4": (Grid(4, "apot"), Grid(4, "apot", symmetric=False)),
}
NETWORKS = {
    "shapes/resnet8": ("w8a8", "w4a4", "w2a8", "w8a8-tensor"),
    "shapes/mobilenet": ("w8a8", "w4a8", "w8a8-tensor"),
    "cifar10/resnet20": ("w8a8", "w4a8", "w4a4", "w2a8", "w8a8-tensor"),
    "cifar10/resnet20-apot": ("apot4", "w8a8"),
    "imagenet/mobilenetv1-0.25": ("w8a8", "w4a8", "w8a8-tensor"),
    "imagenet/googlenet-bvlc": ("w8a8", "w4a8", "w4a4"),
}


@pytest.mark.parametrize(("model", "scheme"), [(m, s) for m, schemes in NETWORKS.items() for s in schemes])
def test_no_code_differs(model: str, scheme: str, request: pytest.FixtureRequest) -> None:
    """The oracle and the native kernels must give every code of the simulation; the others are measured."""
    from quantbench.api import quantize
    from quantbench.data import images
    from quantbench.models import spec
    from quantbench.task import task

    about, option = spec(model), request.config.getoption
    weights, acts = SCHEMES[scheme]
    try:
        here = task(model, about.eval_data)
        net, x = here.network(), images(about.eval_data).x
        calibration = here.calibration(about.calib_data, CALIBRATION, 0)
    except DataMissing as e:
        pytest.skip(str(e))
    what = Scheme(weights, acts, placement="integer", first_last_bits=8 if acts.bits < 8 else None)
    program = quantize(Nearest(), net, calibration, what).integer()
    names = (*EXACT, *option("qb_backends").split(",")) if option("qb_backends") else EXACT
    limit = option("qb_images") or len(x)

    def batches() -> Iterator[Array]:
        for start in range(0, min(limit, len(x)), BATCH):
            yield np.ascontiguousarray(about.preprocess(x[start : min(start + BATCH, limit)]).numpy())

    found = audit(program, batches(), names, oracle=option("qb_oracle"))
    print("\n" + "\n".join(lines(f"{model} {scheme}", found)))
    for name in EXACT:
        if name in found:
            assert found[name].images > 0
            assert found[name].different == 0, f"{name} differs from {found[name].first} on"
