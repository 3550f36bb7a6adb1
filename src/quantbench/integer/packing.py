"""Weights as few bytes.

The bits that tell their distinct values apart, then Huffman codes where those are shorter.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
from numpy.typing import NDArray

LARGEST_WEIGHT = 1 << 31  # elements


def pack(weight: NDArray[np.int8]) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """Weights as bits, most significant first, that index their distinct values.

    Returns:
        bytes, and the values in ascending order.

    """
    values, index = np.unique(weight, return_inverse=True)
    bits = width(len(values))
    planes = (index.reshape(-1, 1) >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(planes.astype(np.uint8)), values.astype(np.int8)


def code(packed: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Bytes in Huffman codes; ``None`` where they would not be fewer."""
    coder = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_HUFFMAN_ONLY)
    short = coder.compress(packed.tobytes()) + coder.flush()
    return np.frombuffer(short, np.uint8) if len(short) < len(packed) else None


def decode(coded: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The inverse of ``code``.

    Huffman codes never make more than eight bytes of one, so a file cannot ask for more memory.

    Raises:
        ValueError: not ``size`` bytes in Huffman codes.

    """
    if coded.dtype != np.uint8 or coded.ndim != 1 or not 0 < size <= 8 * len(coded):
        raise ValueError(f"{coded.size} coded values do not hold {size} bytes")
    decoder = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        found = decoder.decompress(coded.tobytes(), size)
    except zlib.error as e:
        raise ValueError(f"damaged weights: {e}") from e
    if len(found) != size or not decoder.eof or decoder.unused_data:
        raise ValueError(f"coded weights do not hold {size} bytes")
    return np.frombuffer(found, np.uint8)


def unpack(
    packed: NDArray[np.uint8], values: NDArray[np.int8], shape: tuple[int, ...]
) -> NDArray[np.int8]:
    """The inverse of ``pack``.

    Raises:
        ValueError: sizes that do not go together.

    """
    count, bits = math.prod(shape), width(len(values))
    if packed.dtype != np.uint8 or values.dtype != np.int8 or packed.ndim != 1 or values.ndim != 1:
        raise ValueError("packed weights are not bytes")
    if any(s < 1 for s in shape) or count > LARGEST_WEIGHT or len(packed) != -(-count * bits // 8):
        raise ValueError(f"{len(packed)} bytes do not hold {count} weights of {bits} bits")
    planes = np.unpackbits(packed, count=count * bits).reshape(count, bits)
    index = planes.astype(np.int64) @ (1 << np.arange(bits - 1, -1, -1))
    if index.max() >= len(values):
        raise ValueError("a packed weight has no value")
    return values[index].reshape(shape)


def width(distinct: int) -> int:
    """Bits that tell so many values apart; raises ValueError for more than 256."""
    if not 1 <= distinct <= 256:
        raise ValueError(f"{distinct} distinct weights")
    return max(1, math.ceil(math.log2(distinct)))
