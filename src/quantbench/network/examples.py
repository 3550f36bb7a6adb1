"""Calibration data as users have it, as the tensors that methods take."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quantbench.errors import BadInput
from quantbench.network.network import Network
from quantbench.system.progress import Progress, silent
from quantbench.system.tensors import Inputs

LIMIT = 1024  # examples taken from a loader that has more: what most papers calibrate on

# A tensor or array; a tuple of them, one for each input; a mapping by the names of the inputs;
# a list of batches, a data set of examples, or a loader
Examples = Any


def as_inputs(
    given: Examples, net: Network, *, limit: int | None = None, progress: Progress = silent
) -> Inputs:
    """Examples as one tensor (N, ...) for each input of the network.

    Labels are dropped: of a batch ``(images, labels)`` as many parts are taken as the network has
    inputs, and of a mapping those that are named as the arguments of its ``forward``.

    Args:
        given: a tensor, an array, a tuple of as many as the network has inputs, a mapping by the
            inputs' names; a list or a loader of batches of these, or of single examples; a data set
            of single examples.
        net: says how many inputs there are, and their names.
        limit: the most examples to take; of data sets and loaders ``LIMIT`` unless given.
        progress: called with (examples so far, wanted, label).

    Raises:
        BadInput: something that is none of these, batches of different kinds or shapes, none.

    """
    if limit is not None and limit < 1:
        raise BadInput(f"a limit of {limit} calibration examples; it has to be at least 1")
    if isinstance(given, Tensor | np.ndarray | tuple | Mapping):
        return tuple(t[:limit] for t in _parts(given, net))
    single = hasattr(given, "__getitem__") and hasattr(given, "__len__")
    single = single and not isinstance(given, list)
    if not single and not isinstance(given, Iterable):
        raise BadInput(
            f"calibration data is {type(given).__name__}: give a tensor, an array, a tuple of them "
            "for a network of several inputs, a dictionary, a list of batches, a Dataset or a "
            "DataLoader"
        )
    wanted = limit or LIMIT
    known = min(wanted, _length(given) or wanted)
    batches: list[Inputs] = []
    count = 0
    for item in _items(given) if single else given:
        parts = _parts(item, net, example=single)
        if not single:
            parts = tuple(map(_as_batch, parts, net.sample))
        batches.append(parts)
        count += len(parts[0])
        progress(min(count, known), known, "reading calibration examples")
        if count >= wanted:
            break
    if not batches:
        raise BadInput("the calibration set is empty: give at least one example")
    return tuple(_joined(column)[:wanted] for column in zip(*batches, strict=True))


def _length(given: Any) -> int:
    """How many examples a data set or loader has; 0 where it does not say, as lists of batches."""
    data = getattr(given, "dataset", given)
    return len(data) if hasattr(data, "__len__") and not isinstance(data, list) else 0


def _items(data: Sequence[Any]) -> Iterator[Any]:
    """Examples of a data set in order."""
    return (data[i] for i in range(len(data)))


def _parts(given: Any, net: Network, *, example: bool = False) -> Inputs:
    """One tensor for each input of the network, from a batch or from one example."""
    wanted = len(net.sample)
    if isinstance(given, Mapping):
        names = list(inspect.signature(net.model.forward).parameters)
        found = [given[n] for n in names if n in given][:wanted]
        if len(found) < wanted:
            raise BadInput(
                f"calibration data has {', '.join(map(str, given))}; {net.name} takes {wanted} of "
                f"{', '.join(names)}"
            )
    elif isinstance(given, tuple | list):
        found = list(given)[:wanted]
    else:
        found = [given]
    tensors = tuple(_tensor(v) for v in found)
    return tuple(t.unsqueeze(0) for t in tensors) if example else tensors


def _as_batch(part: Tensor, sample: Tensor) -> Tensor:
    """A part as examples, which it is alone where a dimension is missing."""
    return part.unsqueeze(0) if part.dim() == sample.dim() - 1 else part


def _tensor(value: Any) -> Tensor:
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return torch.from_numpy(value)
    if not isinstance(value, Tensor):
        raise BadInput(
            f"a calibration example is {type(value).__name__}, not a tensor: preprocess it as the "
            "network expects, such as with a transform of the data set"
        )
    dense: Tensor = value.to_dense() if value.layout != torch.strided else value
    return dense.detach().clone() if dense.is_inference() else dense.detach()


def _joined(column: Sequence[Tensor]) -> Tensor:
    """Batches of one input, joined."""
    shapes = {tuple(t.shape[1:]) for t in column}
    if len(shapes) > 1:
        found = " and ".join(map(str, sorted(shapes)))
        raise BadInput(f"calibration examples have shapes {found}: make them one shape")
    return torch.cat(list(column))
