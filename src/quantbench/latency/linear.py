"""One linear layer on one vector: our packed weights beside the kernels of other runtimes.

All take float32 and give float32. Ours, and the others with 8-bit weights, read activations as
8-bit codes of a fixed scale; the others with 4-bit weights round them as they see fit (ONNX Runtime
and OpenVINO to 8 bits at run time, torch to bfloat16).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.errors import Unsupported
from quantbench.integer.backends.base import Array, compile  # noqa: A004 - the public word
from quantbench.integer.backends.native import Native
from quantbench.integer.ir import Conv, Format, Program
from quantbench.latency.interleaved import Latency, Runner, interleaved, rows
from quantbench.latency.table import PEERS

# inputs that share a scale in the runtimes that need groups: their cheapest common choice
GROUP = 128


def program(inputs: int, outputs: int, bits: int, seed: int = 0) -> Program:
    """A linear layer of random weights, symmetric, a scale a channel; float32 logits."""
    rng, top = np.random.default_rng(seed), 2 ** (bits - 1) - 1
    weight = rng.integers(-top, top + 1, (outputs, inputs, 1, 1)).astype(np.int8)
    conv = Conv(
        name="linear",
        inputs=("input",),
        output="logits",
        out=None,
        weight=weight,
        weight_zero=np.zeros(outputs, np.int16),
        weight_scale=rng.uniform(0.01, 0.02, outputs).astype(np.float32),
        bias=np.zeros(outputs, np.int32),
        lo=np.zeros(outputs, np.uint8),
        hi=np.full(outputs, 255, np.uint8),
        weight_bits=bits,
    )
    return Program(Format(0.02, 128), (inputs, 1, 1), (conv,))


def measure(
    inputs: int, outputs: int, *, seconds: float = 6.0, say: Callable[[str], None] = print
) -> list[Latency]:
    """Times of one call on one thread: our 8, 4 and 2 bits, and every installed kernel of 8 and 4.

    Raises:
        Unsupported: no native kernels here.

    """
    native = Native()
    if why := native.available():
        raise Unsupported(why)
    runners: dict[str, Runner] = {
        f"native w{b}a8": native.compile(program(inputs, outputs, b)) for b in (8, 4, 2)
    }
    codes, scale = _codes(program(inputs, outputs, 4))
    eight = program(inputs, outputs, 8)
    peers: dict[str, Callable[[], Runner]] = {
        name: partial(peer, codes, scale) for name, peer in _PEERS.items()
    }
    peers |= {f"{name} w8a8": partial(compile, eight, name) for name in PEERS}
    for name, opened in peers.items():
        try:
            runners[name] = opened()
        except Unsupported as e:
            say(f"without {name}: {e}")
    x = np.random.default_rng(1).normal(0, 1, (1, inputs, 1, 1)).astype(np.float32)
    expected = (codes * scale[:, None]) @ x.reshape(-1)
    for name, run in runners.items():
        got = np.asarray(run(x), np.float32).reshape(-1)
        if "w4" in name and np.corrcoef(got, expected)[0, 1] < 0.99:
            say(f"without {name}: its answer is not this layer's")
    times = interleaved(runners, x, seconds=seconds)
    return rows(times, 1, 1)


def _codes(p: Program) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    (conv,) = p.ops
    assert isinstance(conv, Conv)
    return conv.weight[:, :, 0, 0], conv.weight_scale


def _onnxruntime(codes: NDArray[np.int8], scale: NDArray[np.float32]) -> Runner:
    """MatMulNBits with 8-bit activations (accuracy level 4)."""
    if missing := [p for p in ("onnx", "onnxruntime") if find_spec(p) is None]:
        raise Unsupported(f"{' and '.join(missing)} not installed")
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    n, k = codes.shape
    packed = (codes + 8).astype(np.uint8).reshape(n, k // GROUP, GROUP // 2, 2)
    pairs = (packed[..., 0] | packed[..., 1] << 4).astype(np.uint8)  # two weights a byte
    weight = numpy_helper.from_array(pairs, "weight")
    scales = numpy_helper.from_array(np.repeat(scale, k // GROUP), "scales")
    node = helper.make_node(
        "MatMulNBits",
        ["x", "weight", "scales"],
        ["y"],
        domain="com.microsoft",
        K=k,
        N=n,
        bits=4,
        block_size=GROUP,
        accuracy_level=4,
    )
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])
        for name, size in (("x", k), ("y", n))
    )
    graph = helper.make_graph([node], "linear", [x], [y], [weight, scales])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = 1, 1, 3
    content = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(["y"], {"x": x.reshape(1, -1)})[0]


def _openvino(codes: NDArray[np.int8], scale: NDArray[np.float32]) -> Runner:
    """A compressed MatMul: 4-bit constants and a scale a group.

    The plugin chooses 8-bit activations.
    """
    if find_spec("openvino") is None:
        raise Unsupported("openvino not installed")
    import openvino
    from openvino import opset13 as ops

    n, k = codes.shape
    flat = (codes + 8).astype(np.uint8).reshape(-1, 2)
    packed = (flat[:, 0] | flat[:, 1] << 4).astype(np.uint8)
    shape = openvino.Shape([n, k // GROUP, GROUP])
    weight = ops.convert(ops.constant(openvino.Tensor(packed, shape, openvino.Type.u4)), "f32")
    eight, one = np.array([8], np.uint8), openvino.Shape([1, 1, 1])  # the zero point
    zero = ops.convert(ops.constant(openvino.Tensor(eight, one, openvino.Type.u4)), "f32")
    groups = np.repeat(scale, k // GROUP).reshape(n, k // GROUP, 1)
    real = ops.multiply(ops.subtract(weight, zero), ops.constant(groups))
    x = ops.parameter([1, k], np.float32, name="x")
    y = ops.matmul(x, ops.reshape(real, ops.constant(np.array([n, k])), False), False, True)
    options: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": GROUP,
    }
    model = openvino.Model([y], [x])
    request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()

    def run(images: Array) -> Array:
        request.infer([images.reshape(1, -1)], share_inputs=True)
        found: Array = request.get_output_tensor().data
        return found

    return run


def _torch(codes: NDArray[np.int8], scale: NDArray[np.float32]) -> Runner:
    """``_weight_int4pack_mm_for_cpu`` in bfloat16, the fastest form that torch has here."""
    import torch

    n, k = codes.shape
    unsigned = torch.from_numpy((codes.astype(np.int32) + 8).astype(np.int32))
    pack = torch.ops.aten._convert_weight_to_int4pack_for_cpu  # noqa: SLF001 - torch's own name
    product = torch.ops.aten._weight_int4pack_mm_for_cpu  # noqa: SLF001 - the same
    packed = pack(unsigned, 1)
    pairs = torch.zeros(k // GROUP, n, 2, dtype=torch.bfloat16)
    pairs[..., 0] = torch.from_numpy(scale)

    def run(images: Array) -> Array:
        x = torch.from_numpy(images).reshape(1, -1).bfloat16()
        y: Array = product(x, packed, GROUP, pairs).float().numpy()
        return y

    return run


_PEERS: dict[str, Callable[[NDArray[np.int8], NDArray[np.float32]], Runner]] = {
    "onnxruntime w4": _onnxruntime,
    "openvino w4": _openvino,
    "torch w4": _torch,
}
