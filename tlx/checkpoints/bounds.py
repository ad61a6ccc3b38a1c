"""How much a file of another library may ask for, checked before anything is allocated.

A file can claim more than it holds. Every reader here compares what a header says with what is
there, and with these bounds.
"""

import math

FILE_BYTES = 2**36
"""Of a file, and of all shards of an index together (64 GiB)."""

TENSOR_BYTES = 2**34
"""Of one tensor (16 GiB)."""

DIMENSIONS = 32
"""Of one tensor."""

TENSORS = 20_000
"""Named tensors, and mappings around them, that are looked at in one file."""

DEPTH = 32
"""Of mappings in mappings around a tensor."""

PICKLE_BYTES = 2**25
"""Of one pickle without the tensors' values (32 MiB; weights with an optimiser take 1 or 2)."""

PICKLE_STEPS = 300_000
"""Instructions in one pickle; a tensor takes about 35."""

INTEGER_BYTES = 64
"""Of one whole number in a pickle."""

HEADER_BYTES = 2**24
"""Of the header of a safetensors file or of an index (16 MiB)."""

EXPANSION = 100
"""Bytes that compressed members may give for each byte of their file, above `EXPANSION_FREE`."""

EXPANSION_FREE = 2**26
"""Bytes that compressed members may give in any case (64 MiB)."""

SHARED = 8
"""Bytes of tensors for each byte of their file, since some share their values."""


def require(what: str, found: int, limit: int, unit: str = "bytes") -> None:
    """Raises unless `found` is between 0 and `limit`.

    Raises:
      ValueError: naming the bound.

    >>> require("its header", 3, 2)
    Traceback (most recent call last):
    ValueError: its header has 3 bytes, expected 0 to 2: the file is damaged, or no file of weights
    """
    if not 0 <= found <= limit:
        shown = f"{found:,}" if -(10**30) < found < 10**30 else "more than 10**30"
        raise ValueError(
            f"{what} has {shown} {unit}, expected 0 to {limit:,}: the file is damaged, or no file "
            "of weights"
        )


def size(what: str, shape: tuple[int, ...], itemsize: int) -> int:
    """The bytes of an array, in exact arithmetic.

    Raises:
      ValueError: a length is no whole number or below 0, or the array is beyond the bounds.
    """
    require(what, len(shape), DIMENSIONS, "dimensions")
    if any(type(length) is not int for length in shape):
        raise ValueError(f"{what}: expected whole numbers as its shape")
    for length in shape:
        require(f"a dimension of {what}", length, 2**62, "values")
    total = math.prod(shape) * itemsize
    require(what, total, TENSOR_BYTES)
    return total
