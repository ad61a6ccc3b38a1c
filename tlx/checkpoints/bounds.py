"""Bounds on what a file of another library may claim, checked before anything is allocated.

Every claim of a header is compared with the bytes that are there and with these bounds. They
are far above any file of weights; a file beyond them is damaged, or malicious.
"""

import math
from collections.abc import Sequence

import numpy as np

FILE_BYTES = 1 << 37
"""Of a file (128 GiB)."""

MEMBER_BYTES = 1 << 36
"""Of one member of a zip file (64 GiB)."""

TENSOR_BYTES = 1 << 36
"""Of one tensor (64 GiB)."""

HEADER_BYTES = 1 << 23
"""Of a safetensors header, or an index of shards (8 MiB)."""

PICKLE_BYTES = 1 << 25
"""Of a pickle without the values of its tensors (32 MiB)."""

INTEGER_BYTES = 16
"""Of a whole number in a pickle."""

OBJECTS = 250_000
"""Instructions of a pickle, or values of a msgpack file; a tensor takes about 35, or 2."""

TENSORS = 100_000
"""Mappings and tensors together that names are made of; members of a zip file."""

DEPTH = 32
"""Mappings in mappings around a tensor; levels of a msgpack file; dimensions of a tensor."""

INFLATED_BYTES = 1 << 26
"""What compressed members may give together in any case (64 MiB) …"""

INFLATION = 50
"""… or else for each byte of the file."""

SHARED = 16
"""How often the tensors together may use the values of their storages (tied weights)."""


def require(what: str, value: int, most: int, unit: str = "bytes") -> None:
    """Raises unless 0 ≤ `value` ≤ `most`.

    Raises:
      ValueError: naming the bound.

    >>> require("the header", 3, 2)
    Traceback (most recent call last):
    ValueError: the header: expected at most 2 bytes, got 3: the file is damaged, or not of weights
    """
    if not 0 <= value <= most:
        got = f"{value:,}" if abs(value) < 1 << 80 else "a number of over 80 bits"
        raise ValueError(
            f"{what}: expected at most {most:,} {unit}, got {got}: the file is damaged, or not of "
            "weights"
        )


def require_size(what: str, shape: Sequence[int], dtype: np.dtype, size: int) -> None:
    """Raises unless an array takes exactly `size` bytes.

    Raises:
      ValueError: naming the shape and both sizes.
    """
    require(f"{what}'s shape", len(shape), DEPTH, "dimensions")
    for length in shape:
        require(f"a length of {what}", length, 1 << 62, "values")
    needed = math.prod(shape) * dtype.itemsize
    require(what, needed, TENSOR_BYTES)
    if needed != size:
        raise ValueError(
            f"expected {needed:,} bytes for {what} of shape {tuple(shape)} and {dtype}, got "
            f"{size:,} in the file: it is cut off or damaged"
        )
