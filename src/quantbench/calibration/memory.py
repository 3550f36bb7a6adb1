"""Activations of a whole calibration set, in memory up to a limit and in a file past it."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from quantbench.errors import BadInput, CannotWrite

LIMIT = "QUANTBENCH_MEMORY_GIB"

CHUNK = 64  # examples worked on at a time

_NUMPY: dict[torch.dtype, Any] = {
    torch.float32: np.float32,
    torch.bfloat16: np.int16,
    torch.int64: np.int64,
    torch.float64: np.float64,
}


class Activations:
    """One tensor over N examples, filled in order, then read by example numbers.

    Floating-point values may be stored in another type, such as bfloat16; what is read has the type
    that was put. Images are kept channels-last, the layout in which convolutions run fastest on a
    CPU. What lies in a file is mapped for each access and unmapped at once, so that it never counts
    as this process's memory for long.
    """

    def __init__(
        self, n: int, like: Tensor, *, file: Path | None = None, store: torch.dtype | None = None
    ) -> None:
        self.image, self.given = like.dim() == 4, like.dtype
        shape = tuple(like[0].permute(1, 2, 0).shape if self.image else like[0].shape)
        self.shape, self.dtype, self.device = (n, *shape), _stored(like, store), like.device
        self.file, self.filled, self.factor = file, 0, 1.0
        self.data: Tensor | None = None
        if file is None:
            self.data = torch.empty(self.shape, dtype=self.dtype, device=like.device)
        else:
            _reserve(file, math.prod(self.shape) * self.dtype.itemsize)
            weakref.finalize(self, file.unlink, missing_ok=True)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def bytes(self) -> int:
        """Size in memory; 0 when it lies in a file."""
        return 0 if self.data is None else self.data.numel() * self.data.element_size()

    def append(self, batch: Tensor) -> None:
        """Put the next examples, (n, C, H, W) or (n, ...)."""
        rows = slice(self.filled, self.filled + batch.shape[0])
        self.filled = rows.stop
        batch = batch.detach().permute(0, 2, 3, 1) if self.image else batch.detach()
        if self.data is not None:
            self.data[rows] = batch
            return
        plain = batch.to("cpu", self.dtype)
        if self.dtype == torch.bfloat16:  # which NumPy does not have
            plain = plain.view(torch.int16)
        self._map("r+")[rows] = plain.numpy()

    def take(self, index: Tensor | slice) -> Tensor:
        """Fresh copy of some examples; images as (n, C, H, W) in channels-last layout."""
        if self.data is not None:
            if isinstance(index, slice):
                rows = self.data[index].to(self.given, copy=True)
            else:  # a third faster than self.data[index], which does not copy rows as a whole
                rows = self.data.index_select(0, index.to(self.data.device)).to(self.given)
        else:
            part = self._map("r")[index if isinstance(index, slice) else index.cpu().numpy()]
            rows = torch.from_numpy(np.array(part))
            rows = rows.view(torch.bfloat16) if self.dtype == torch.bfloat16 else rows
            rows = rows.to(self.device, self.given)
        if self.factor != 1:
            rows = rows.mul_(self.factor)
        return rows.permute(0, 3, 1, 2) if self.image else rows

    def sum(self, index: Tensor) -> Tensor:
        """Sum of some examples, which are kept in their own type, without copies of them."""
        assert self.dtype == self.given
        rows = torch.from_numpy(self._map("r+")) if self.data is None else self.data
        first, *others = index.tolist()
        total = rows[first].clone()
        for i in others:
            total += rows[i]
        return total.to(self.device)

    def rms(self) -> float:
        """Root of the mean square of all values."""
        parts = [
            self.take(slice(i, i + CHUNK)).double().square().mean()
            for i in range(0, len(self), CHUNK)
        ]
        sizes = [min(CHUNK, len(self) - i) for i in range(0, len(self), CHUNK)]
        mean = sum(float(p) * n for p, n in zip(parts, sizes, strict=True)) / len(self)
        return math.sqrt(mean)

    def _map(self, mode: Literal["r", "r+"]) -> Any:
        """Memory map of the file; unmapped when the caller drops it."""
        assert self.file is not None
        return np.memmap(self.file, _NUMPY[self.dtype], mode, shape=self.shape)


def _reserve(file: Path, size: int) -> None:
    """Make a file whose space is there.

    A full disk would otherwise end the process when the space is first used.
    """
    try:
        with file.open("wb") as made:
            os.posix_fallocate(made.fileno(), 0, max(1, size))
    except OSError as e:
        file.unlink(missing_ok=True)
        raise CannotWrite(
            f"cannot put {size / 2**30:.2f} GiB of activations into {file.parent}: {e.strerror}. "
            f"Make room there, let {LIMIT} allow more memory, name another folder in TMPDIR, or "
            "use fewer calibration examples"
        ) from e


def _stored(like: Tensor, store: torch.dtype | None) -> torch.dtype:
    """Type in which values like these are kept: whole numbers stay what they are."""
    return store if store is not None and like.dtype.is_floating_point else like.dtype


class Memory:
    """Gives room to activations: the first ones in memory, those past the limit in files.

    Args:
        limit_gib: how much may be in memory; by default ``$QUANTBENCH_MEMORY_GIB``, or 2.
        folder: where the files go; by default a temporary folder that goes with this object.
        store: type in which floating-point activations are kept; by default their own.

    Raises:
        BadInput: the limit is no positive number.

    """

    def __init__(
        self,
        limit_gib: float | None = None,
        folder: Path | None = None,
        store: torch.dtype | None = None,
    ) -> None:
        text = os.environ.get(LIMIT, "2")
        try:
            self.limit = (float(text) if limit_gib is None else limit_gib) * 2**30
        except ValueError:
            raise BadInput(
                f"{LIMIT}={text!r}: give the memory for activations as a number of GiB, such as 2"
            ) from None
        if not self.limit > 0:
            raise BadInput(f"a memory limit of {self.limit / 2**30} GiB: choose a positive one")
        self._alive: weakref.WeakSet[Activations] = weakref.WeakSet()
        self._folder, self._files, self.store = folder, 0, store

    @property
    def used(self) -> int:
        """Bytes of activations in memory now."""
        return sum(a.bytes for a in self._alive)

    def room(self, n: int, like: Tensor, *, exact: bool = False) -> Activations:
        """Room for ``n`` examples like those of a batch.

        Floating-point numbers are kept in this memory's type or, ``exact``, in their own.
        """
        store = None if exact else self.store
        size = n * like[0].numel() * _stored(like, store).itemsize
        file = self._file() if self.used + size > self.limit else None
        made = Activations(n, like, file=file, store=store)
        self._alive.add(made)
        return made

    def keep(self, part: Tensor) -> Activations:
        """Examples that exist already, in their own type."""
        made = self.room(len(part), part, exact=True)
        made.append(part)
        return made

    def _file(self) -> Path:
        """A new file name."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="quantbench-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._files += 1
        return self._folder / f"activations-{os.getpid()}-{self._files}.bin"
