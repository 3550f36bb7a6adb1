"""What becomes of a quantized network: saved, loaded, run on integers, exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from quantbench.integer.backends.base import not_installed
from quantbench.integer.backends.onnx.file import save_onnx
from quantbench.integer.lowering.lower import lower
from quantbench.integer.simulate import Simulation
from quantbench.network.network import Network
from quantbench.quantization.quantized import Quantized
from quantbench.quantization.serialize import load, save

NEAR = 0.02  # of the output: sums of floats that runtimes add in another order, and their rounding


def whole_way(q: Quantized, net: Network, *x: Tensor, folder: Path) -> None:
    """See that a network is the same after each step that a user takes with it.

    Args:
        q: under an ``integer`` placement it is lowered and exported too.
        net: the network that it was made of, as it is made anew when a file is loaded.
        x: its inputs.
        folder: to write to.

    """
    save(q, folder)
    again = load(folder, net, q.scheme)
    assert again.digest == q.digest
    with torch.no_grad():
        assert torch.equal(again.fake()(*x), q.fake()(*x))
    if q.scheme.placement == "integer":
        (images,) = x
        program = lower(q)
        images = images.reshape(len(images), *program.shape)
        right = Simulation(program)(images)
        assert torch.equal(Simulation(lower(again))(images), right)
        path = folder / "program.onnx"
        if not (not_installed("onnx") or not_installed("onnxruntime")):
            save_onnx(program, path)
            found = in_onnx_runtime(path.read_bytes(), images)["logits"]
            off = (found - right).float().norm()
            assert float(off) <= NEAR * float(right.float().norm())


def in_onnx_runtime(model: bytes, images: Tensor) -> dict[str, Tensor]:
    """What ONNX Runtime makes of a file's own meaning: without rewriting it, on one thread.

    Returns:
        its outputs by name.

    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    found = session.run(names, {"images": images.numpy()})
    return {n: torch.from_numpy(np.asarray(a)) for n, a in zip(names, found, strict=True)}
