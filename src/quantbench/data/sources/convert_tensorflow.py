"""TensorFlow's MobileNets: from TensorFlow.js, .npy and TensorFlow Lite to plain safetensors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from quantbench.data.sources.convert_weights import Get, floats, tensor
from quantbench.errors import DataCorrupt, DataMissing


def mobilenet_v1(get: Get, out: Path, source: str) -> None:
    """Keras MobileNetV1 from TensorFlow.js: a manifest and one raw file a group of weights."""
    (model,) = get(source)
    folder = PurePosixPath(source).parent
    try:
        groups = json.loads(model.read_text(encoding="utf-8"))["weightsManifest"]
        files = get(*(f"{folder}/{path}" for group in groups for path in group["paths"]))
        arrays: dict[str, np.ndarray] = {}
        for group, path in zip(groups, files, strict=True):
            arrays |= _split(floats(path), group["weights"], path)
    except (ValueError, KeyError) as e:
        raise DataCorrupt(
            f"{model.name} is not a TensorFlow.js model with a weights manifest: {e}"
        ) from e
    tensors: dict[str, Tensor] = {}
    for name, array in arrays.items():
        tensors |= _keras(name, array)
    save_file(tensors, out)


_PARTS = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}

# depthwise layers of stride 2, whose explicit padding is element 0 of their Sequential
_STRIDED = (2, 4, 6, 12)


def _keras(name: str, array: np.ndarray) -> dict[str, Tensor]:
    """One Keras weight under its name here; kernels (h, w, in, out) become (out, in, h, w)."""
    layer, _, part = name.partition("/")
    if layer == "conv_preds":
        return (
            {"fc.bias": tensor(array)} if part == "bias" else {"fc.weight": tensor(array[0, 0].T)}
        )
    words = layer.split("_")
    number = int(words[2]) if layer != "conv1" and words[0] == "conv" and len(words) > 2 else 0
    depthwise = number and words[1] == "dw"
    stem = f"blocks.{number - 1}.{int(not depthwise)}" if number else "stem"
    first = int(not number or (bool(depthwise) and number in _STRIDED))
    if part in _PARTS:
        key = f"{stem}.{first + 1}"
        count = {f"{key}.num_batches_tracked": torch.tensor(0)} if part == "gamma" else {}
        return {f"{key}.{_PARTS[part]}": tensor(array)} | count
    return {
        f"{stem}.{first}.weight": tensor(
            array.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
        )
    }


def _split(
    values: np.ndarray, weights: Sequence[Mapping[str, Any]], path: Path
) -> dict[str, np.ndarray]:
    sizes = [int(np.prod(w["shape"])) for w in weights]
    if sum(sizes) != values.size:
        raise DataCorrupt(f"{path.name} has {values.size} values, its manifest says {sum(sizes)}")
    cuts = np.split(values, np.cumsum(sizes)[:-1])
    return {w["name"]: cut.reshape(w["shape"]) for w, cut in zip(weights, cuts, strict=True)}


# The files of MobileNetV2's kernels are numbered without order. Stem, first block, 16 blocks of
# expansion, depthwise convolution and projection, last convolution.
_STEM, _LAST = 90, 71

_FIRST = (238, 167)

_BLOCKS = (
    *((165, 99, 73), (3, 119, 115), (255, 216, 157), (227, 221, 193)),
    *((243, 102, 215), (226, 163, 229), (104, 254, 143), (25, 142, 202)),
    *((225, 129, 98), (169, 2, 246), (162, 87, 106), (52, 22, 40)),
    *((114, 65, 242), (203, 250, 92), (133, 130, 258), (60, 248, 100)),
)

_LOGITS = "Logits_Conv2d_1c_1x1_Conv2D"


def _layers() -> Iterator[tuple[str, int, str]]:
    """Name here (torchvision's), number of the kernel, TensorFlow's name of each convolution."""
    yield "features.0.0", _STEM, "Conv_Conv2D"
    yield "features.1.conv.0.0", _FIRST[0], "expanded_conv_depthwise_depthwise"
    yield "features.1.conv.1", _FIRST[1], "expanded_conv_project_Conv2D"
    for i, (expand, depthwise, project) in enumerate(_BLOCKS, 1):
        block, theirs = f"features.{i + 1}.conv", f"expanded_conv_{i}"
        yield f"{block}.0.0", expand, f"{theirs}_expand_Conv2D"
        yield f"{block}.1.0", depthwise, f"{theirs}_depthwise_depthwise"
        yield f"{block}.2", project, f"{theirs}_project_Conv2D"
    yield "features.18.0", _LAST, "Conv_1_Conv2D"


def mobilenet_v2(get: Get, out: Path, source: str) -> None:
    """TensorFlow's MobileNetV2, batch norm folded: an .npy a tensor, kernels (out, h, w, in).

    The classifier's matrix comes at 8 bits from the entry's second source. Class 0, the background,
    is left out.
    """
    layers = tuple(_layers())
    names = [f"{source}/Const_{number}.npy" for _, number, _ in layers]
    names += [f"{source}/MobilenetV2_{theirs}_bias.npy" for *_, theirs in layers]
    *files, logits = get(*names, f"{source}/MobilenetV2_{_LOGITS}_bias.npy")
    tensors = {
        "classifier.1.weight": tensor(_dequantized(get.second())[1:]),
        "classifier.1.bias": tensor(from_npy(logits)[1:]),
    }
    for (key, _, theirs), kernel, bias in zip(
        layers, files[: len(layers)], files[len(layers) :], strict=True
    ):
        depthwise = theirs.endswith("depthwise")  # (1, h, w, out)
        order = (3, 0, 1, 2) if depthwise else (0, 3, 1, 2)
        tensors[f"{key}.weight"] = tensor(from_npy(kernel).transpose(order))
        tensors[f"{key}.bias"] = tensor(from_npy(bias))
    save_file(tensors, out)


def from_npy(path: Path) -> np.ndarray:
    """All of an .npy file of numbers."""
    try:
        found: np.ndarray = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as e:
        raise DataCorrupt(f"{path.name} is not a whole .npy file of numbers: {e}") from e
    return found


_MATRIX = (1001, 1, 1, 1280)  # MobileNetV2's classifier in TensorFlow Lite, with the background


def _dequantized(path: Path) -> np.ndarray:
    """The classifier's matrix (1001, 1280) of a TensorFlow Lite file: int8 times a scale a class.

    Raises:
        DataMissing: LiteRT, which reads such files, is not installed.
        DataCorrupt: the file is none of those, or has no such matrix.

    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as e:
        raise DataMissing(
            "LiteRT, which reads .tflite", "pip install 'quantbench[runtimes]'"
        ) from e
    try:
        model = Interpreter(str(path))
    except ValueError as e:
        raise DataCorrupt(f"{path.name} is not a whole TensorFlow Lite file: {e}") from e
    for about in model.get_tensor_details():
        if tuple(about["shape"]) == _MATRIX and about["dtype"] == np.int8:
            codes, scales = (
                model.get_tensor(about["index"]).reshape(_MATRIX[0], -1),
                about["quantization_parameters"]["scales"],
            )
            matrix: np.ndarray = codes.astype(np.float32) * scales[:, None]
            return matrix
    raise DataCorrupt(f"{path.name} has no int8 matrix of shape {_MATRIX}")
