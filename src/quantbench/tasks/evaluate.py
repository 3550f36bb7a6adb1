"""Outputs of a network over an image set, and the score of every single example.

Scores are kept per example, not only on average, because two networks are compared on the same
images (McNemar).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from quantbench.errors import BadInput
from quantbench.models.preprocess import Preprocess
from quantbench.system.determinism import exact_cudnn

Model = nn.Module | Callable[[Tensor], Tensor]

# per batch: the widest feature map (64 channels at full resolution, VGG) is then 0.5 GiB
_PIXELS = 1 << 21

_LARGEST = 256  # larger batches are no faster on a CPU


def logits(
    model: Model,
    x: np.ndarray,
    preprocess: Preprocess,
    *,
    batch_size: int | None = None,
    device: str | torch.device | None = None,
    name: str = "the model",
) -> Tensor:
    """Run a network over images, batch by batch, without gradients, in channels-last layout.

    No example sees another, so the batch size changes results by rounding only. The default depends
    on the image size alone, so the same call gives the same bits on the same machine.

    Args:
        model: a module in evaluation mode, or any callable, that maps (N, 3, H, W) float32 to (N,
            classes).
        x: uint8 (N, H, W, 3), RGB; may be a memory map.
        preprocess: pixels to network input.
        batch_size: images per call; None chooses by image size.
        device: where the model is; None looks at a module's parameters, and takes the CPU where
            there are none.
        name: of the model, for errors.

    Returns:
        float32 (N, classes), on the CPU.

    Raises:
        BadInput: no images, a module in training mode, outputs of the wrong shape or not finite.

    """
    if x.ndim != 4 or not len(x):
        raise BadInput(
            f"{name}: images are uint8 (N, H, W, 3) with N > 0, these are {x.dtype} {x.shape}"
        )
    if batch_size is not None and batch_size < 1:
        raise BadInput(f"{name}: batch size {batch_size}; choose at least 1")
    if isinstance(model, nn.Module) and any(m.training for m in model.modules()):
        raise BadInput(
            f"{name} is in training mode, where batch norm mixes examples: call .eval() first"
        )
    if device is None:
        device = device_of(model)
    size = batch_size or max(1, min(_LARGEST, _PIXELS // (x.shape[1] * x.shape[2])))
    parts: list[Tensor] = []
    with torch.inference_mode(), exact_cudnn():
        for start in range(0, len(x), size):
            batch = (
                preprocess(x[start : start + size])
                .to(device)
                .contiguous(memory_format=torch.channels_last)
            )
            out = model(batch)
            _require_logits(out, len(batch), start, name)
            parts.append(out.float().cpu())
    return torch.cat(parts)


def device_of(model: Model) -> str | torch.device:
    """Where a network is; a function that is none takes tensors of the processor."""
    if not isinstance(model, nn.Module):
        return "cpu"
    return next((p.device for p in model.parameters()), "cpu")


def _require_logits(out: Tensor, n: int, start: int, name: str) -> None:
    if out.dim() != 2 or len(out) != n:
        raise BadInput(
            f"{name}: {n} images gave an output of shape {tuple(out.shape)}, not ({n}, classes)"
        )
    if bad := (~torch.isfinite(out)).any(dim=1).nonzero().flatten().tolist():
        raise BadInput(
            f"{name}: NaN or infinite outputs for {len(bad)} of {n} images "
            f"(the first is image {start + bad[0]}); "
            "look at the ranges and scales of its last quantized layers"
        )


def correct_bits(logits: Tensor, y: np.ndarray, k: int = 1) -> np.ndarray:
    """Tell for each example whether the label is among the k largest logits.

    Of equal logits the one with the smaller index counts as larger, on every device, so ties are
    decided the same way everywhere (a low-bit network has many).

    Args:
        logits: (N, classes).
        y: integer labels (N,).
        k: 1 to classes.

    Returns:
        bool (N,).

    Raises:
        BadInput: lengths differ, labels are no class of the network, or k is out of range.

    """
    n, classes = logits.shape
    if len(y) != n:
        raise BadInput(f"{n} outputs and {len(y)} labels")
    if not 1 <= k <= classes:
        raise BadInput(f"top-{k} of {classes} classes; choose 1 to {classes}")
    if n and (int(y.min()) < 0 or int(y.max()) >= classes):
        raise BadInput(f"labels from {y.min()} to {y.max()}, but the network has {classes} classes")
    label = torch.from_numpy(np.ascontiguousarray(y, dtype=np.int64)).unsqueeze(1).to(logits.device)
    own = logits.gather(1, label)
    index = torch.arange(classes, device=logits.device)
    rank = ((logits > own) | ((logits == own) & (index < label))).sum(dim=1)
    bits: np.ndarray = (rank < k).cpu().numpy()
    return bits


def accuracy(logits: Tensor, y: np.ndarray, k: int = 1) -> float:
    """Top-k accuracy in percent of (N, classes) logits; see :func:`correct_bits`."""
    return 100.0 * float(np.mean(correct_bits(logits, y, k)))
