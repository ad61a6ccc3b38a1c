"""Arrays from zip, npz, safetensors and msgpack files, bounded by the size of the file."""

import io
import json
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.lib import format as npy

from tlx.checkpoints import bounds

_TYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": jnp.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


@contextmanager
def open_zip(file: Path) -> Iterator[zipfile.ZipFile]:
    """A zip file whose members can be together in a file of its size.

    Raises:
      ValueError: a name occurs twice, or the members claim more bytes than there are.
    """
    size = file.stat().st_size
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            bounds.require("a zip file", len(members), bounds.TENSORS, "members")
            names = [member.filename for member in members]
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise ValueError(f"expected each member once, got {twice[:100]!r} twice")
            bounds.require("its members", sum(m.compress_size for m in members), size)
            inflated = [m.file_size for m in members if m.compress_type != zipfile.ZIP_STORED]
            most = max(bounds.INFLATED_BYTES, bounds.INFLATION * size)
            bounds.require("its compressed members, inflated", sum(inflated), most)
            yield archive
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"a damaged zip file, or of no known compression ({error})") from error


def member(archive: zipfile.ZipFile, name: str, *, most: int) -> bytes:
    """The bytes of a member.

    Raises:
      ValueError: there are more than `most`, whatever the header says.
    """
    info = archive.getinfo(name)
    bounds.require(f"its member {name[:100]!r}", info.file_size, min(most, bounds.MEMBER_BYTES))
    with archive.open(info) as data:
        found = data.read(info.file_size + 1)
    if len(found) != info.file_size:
        raise ValueError(
            f"expected {info.file_size:,} bytes in its member {name[:100]!r}, got {len(found):,}"
        )
    return found


def read_npz(file: Path) -> dict[str, np.ndarray]:
    """The arrays of numpy.savez.

    Raises:
      ValueError: the file is damaged, or holds anything but arrays of numbers.
    """
    with open_zip(file) as archive:
        strange = [name for name in archive.namelist() if not name.endswith(".npy")]
        if strange:
            raise ValueError(
                f"a zip file with {strange[0][:100]!r}, which is neither of torch nor of numpy"
            )
        return {
            info.filename.removesuffix(".npy"): _npy(
                info.filename, member(archive, info.filename, most=bounds.MEMBER_BYTES)
            )
            for info in archive.infolist()
        }


def _npy(name: str, data: bytes) -> np.ndarray:
    stream = io.BytesIO(data)
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{name!r}: an array in numpy's format {version}, which is not read")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, is_fortran, dtype = read(stream)
    if dtype.kind not in "biufc" or dtype.char in "gG":  # the last are of 128 bits
        remedy = "; numpy has no bfloat16: save such weights as safetensors" * (dtype.kind == "V")
        raise ValueError(f"{name!r}: expected an array of numbers, got {dtype}{remedy}")
    bounds.require_size(repr(name), shape, dtype, len(data) - stream.tell())
    values = np.frombuffer(data, dtype, offset=stream.tell())
    values = values.astype(dtype.newbyteorder("="), copy=False)
    return values.reshape(shape, order="F" if is_fortran else "C")


def read_safetensors(file: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file.

    Raises:
      ValueError: the header is beyond the file, offsets overlap or leave gaps, or a type is none
        of numpy's.
    """
    import safetensors

    size = file.stat().st_size
    with file.open("rb") as data:
        (length,) = struct.unpack("<Q", data.read(8))
    bounds.require("a safetensors header", length, min(bounds.HEADER_BYTES, size - 8))
    try:
        found = safetensors.deserialize(file.read_bytes())
    except safetensors.SafetensorError as error:
        raise ValueError(f"damaged ({error})") from error
    strange = sorted({entry["dtype"] for _, entry in found} - set(_TYPES))
    if strange:
        raise ValueError(f"tensors of type {', '.join(strange)}; known: {', '.join(_TYPES)}")
    return {
        name: np.frombuffer(entry["data"], _TYPES[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in found
    }


def read_json(file: Path) -> Any:
    """The content of a JSON file.

    Raises:
      ValueError: it is too large, or no JSON.
    """
    bounds.require("an index of shards", file.stat().st_size, bounds.HEADER_BYTES)
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError("of no known format: it begins as JSON, but is none") from error


def read_msgpack(file: Path) -> Any:
    """What flax.serialization wrote.

    Raises:
      ValueError: the file is of no format that is known, damaged or beyond the bounds.
    """
    from flax import serialization

    data = file.read_bytes()
    try:
        _scan(data)
        return serialization.msgpack_restore(data)
    except Exception as error:  # msgpack raises all kinds of errors
        raise ValueError(
            "of no known format (torch.save, safetensors, Flax's msgpack, npz), cut off, or beyond "
            f"what weights take ({type(error).__name__}: {str(error)[:200]})"
        ) from error


_FIXED = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8} | {
    base + i: 1 << i for base in (0xCC, 0xD0) for i in range(4)
}
"""Bytes of the numbers and constants, by their first byte."""

_LENGTHS = {base + i: 1 << i for base in (0xC4, 0xD9) for i in range(3)}
"""Bytes of the length of bytes and texts."""

_COUNTS = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
"""Bytes of the count of lists and mappings, and how many values each has."""

_FLAX = {0xD4 + i: 0 for i in range(5)} | {0xC7 + i: 1 << i for i in range(3)}
"""Bytes of the length of Flax's extension types: one value in msgpack, nested."""


def _scan(data: bytes) -> None:
    """Walks over msgpack without building objects from it.

    Raises:
      ValueError: it is damaged, or has more values or levels than the bounds.
    """
    at, left = 0, [1]
    for _ in range(bounds.OBJECTS):
        while left and not left[-1]:
            left.pop()
        if not left:
            return
        left[-1] -= 1
        at, within = _value(data, at)
        if at > len(data):
            raise ValueError("it is cut off")
        bounds.require("msgpack", within, bounds.OBJECTS, "values in one")
        if within:
            bounds.require("msgpack", len(left), bounds.DEPTH, "levels")
            left.append(within)
    raise ValueError(f"expected at most {bounds.OBJECTS:,} values")


def _value(data: bytes, at: int) -> tuple[int, int]:
    """Where the next value is, and how many values are within this one."""
    first, at = data[at], at + 1

    def number(width: int) -> int:
        return int.from_bytes(data[at : at + width], "big")

    if first < 0x80 or first >= 0xE0:
        return at, 0
    if first < 0xA0:
        return at, (first & 15) * (1 if first >= 0x90 else 2)
    if first < 0xC0:
        return at + (first & 31), 0
    if first in _FIXED:
        return at + _FIXED[first], 0
    if first in _LENGTHS:
        return at + _LENGTHS[first] + number(_LENGTHS[first]), 0
    if first in _COUNTS:
        width, each = _COUNTS[first]
        return at + width, number(width) * each
    if first in _FLAX and data[at + _FLAX[first]] in (1, 2, 3):
        return at + _FLAX[first] + 1, 1
    raise ValueError("it is not Flax's msgpack")
