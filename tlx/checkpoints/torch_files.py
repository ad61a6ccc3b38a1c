"""Files of torch.save without torch: tensors come out, and nothing in a file is executed.

`tlx.checkpoints.pickles` reads what a file holds; here are the few names that rebuild tensors and
plain containers. Any other object comes out as a placeholder that does nothing.
"""

import math
import os
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax.numpy as jnp
import numpy as np

from tlx.checkpoints import bounds, pickles
from tlx.checkpoints.pickles import Inert, Name

LEGACY_START = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
"""How files of torch before 1.6 begin: a pickle of their magic number."""

_PROTOCOL = 1001
_CONVERT = (
    "where you trust the file, torch.load it and save its state dict with "
    "safetensors.torch.save_file"
)
_DTYPES: dict[str, Any] = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
    "ComplexFloatStorage": np.complex64,
    "ComplexDoubleStorage": np.complex128,
    "UntypedStorage": np.uint8,
}


class _Storage:
    """Values in the file; of old files they come after the pickle that refers to them."""

    def __init__(self, key: str, dtype: np.dtype, size: int) -> None:
        bounds.require(f"storage {key[:40]!r}", size, bounds.FILE_BYTES // dtype.itemsize, "values")
        self.key, self.dtype, self.size = key, dtype, size
        self.values: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        """What the file should hold of it."""
        return self.size * self.dtype.itemsize

    def fill(self, data: bytes) -> None:
        if len(data) != self.nbytes:
            raise ValueError(
                f"storage {self.key!r} should hold {self.size} values of {self.dtype}, but has "
                f"{len(data)} bytes: the file is cut off or damaged"
            )
        self.values = np.frombuffer(data, self.dtype.newbyteorder("<"))


class Tensor(NamedTuple):
    """A view of a storage, as yet not copied."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Of the array."""
        return math.prod(self.shape) * self.storage.dtype.itemsize

    def array(self) -> np.ndarray:
        """The values, copied; as the shape and strides, in values, say."""
        values = self.storage.values
        assert values is not None
        if not math.prod(self.shape):
            return np.zeros(self.shape, self.storage.dtype)
        width = values.itemsize
        start = values[self.offset :]
        seen = np.lib.stride_tricks.as_strided(start, self.shape, [s * width for s in self.strides])
        return np.array(seen, self.storage.dtype)


def _rebuild(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor is not made of a storage")
    if not (isinstance(shape, tuple) and isinstance(strides, tuple) and type(offset) is int):
        raise ValueError("a tensor without a shape")
    bounds.size("a tensor", shape, storage.dtype.itemsize)
    is_sound = len(strides) == len(shape) and all(type(n) is int and n >= 0 for n in strides)
    if not is_sound or offset < 0:
        raise ValueError(f"a tensor has shape {shape}, offset {offset} and unfitting strides")
    size = math.prod(shape)
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if size and (last >= storage.size or size > storage.size):
        raise ValueError(
            f"a tensor of shape {shape} reaches value {last} of a storage with {storage.size}: the "
            "file is damaged"
        )
    return Tensor(storage, offset, shape, strides)


def _mapping(*args: Any) -> dict[Any, Any]:
    """An OrderedDict: empty, or of the pairs of older pickles; a defaultdict is empty."""
    pairs = args[0] if args and isinstance(args[0], list) else []
    found = {}
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise ValueError("a mapping of what are no pairs of a name and a value")
        found[pair[0]] = pair[1]
    return found


def _first(value: Any = None, *_: Any) -> Any:
    return value


def _tuple(values: Any = (), *_: Any) -> Any:
    return tuple(values) if isinstance(values, list | tuple) else Inert("torch.Size")


_KNOWN: Mapping[Name, Callable[..., Any]] = {
    Name("collections", "OrderedDict"): _mapping,
    Name("collections", "defaultdict"): _mapping,
    Name("torch._utils", "_rebuild_tensor"): _rebuild,
    Name("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    Name("torch._utils", "_rebuild_parameter"): _first,
    Name("torch._utils", "_rebuild_parameter_with_state"): _first,
    Name("torch", "Size"): _tuple,
}


def _no_storage(pid: Any) -> Any:
    raise ValueError("a storage where none belongs")


def _storage_of(pid: Any) -> tuple[np.dtype, str, int]:
    """What a reference to a storage says: dtype, key and number of values."""
    is_one = isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage"
    if not is_one or not isinstance(pid[1], Name) or type(pid[4]) is not int:
        raise ValueError("a reference that is not to a storage")
    kind, key = pid[1], pid[2]
    if kind.module not in ("torch", "torch.storage") or kind.name not in _DTYPES:
        raise ValueError(f"values of {kind}, which are not read here. {_CONVERT}")
    if not isinstance(key, str):
        raise ValueError("a storage without a name")
    return np.dtype(_DTYPES[kind.name]), key, pid[4]


def read_zip(file: Path) -> Any:
    """What torch 1.6 or later saved: containers of `Tensor` and of what weights are not made of.

    Raises:
      ValueError: if the file is damaged, or beyond `tlx.checkpoints.bounds`.
    """
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
        if len(roots) != 1 or len(set(names)) != len(names):
            raise ValueError("a zip file with several members of one name, or several pickles")
        (root,) = roots
        order = f"{root}byteorder"
        if order in names and archive.open(order).read(16) != b"little":
            raise ValueError("its values are in big-endian order, which is not read here")
        storages: dict[str, _Storage] = {}
        left = os.path.getsize(file)

        def find(pid: Any) -> _Storage:
            nonlocal left
            dtype, key, size = _storage_of(pid)
            if key in storages:
                return storages[key]
            member, storage = f"{root}data/{key}", _Storage(key, dtype, size)
            if member not in names:
                raise ValueError(f"it lacks the storage {key!r}")
            info = archive.getinfo(member)
            if info.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"the storage {key!r} is compressed, as torch never does it")
            left -= info.file_size
            if info.file_size != info.compress_size or left < 0:
                raise ValueError(f"storage {key!r}: the file holds less than it says")
            storage.fill(archive.read(member))
            storages[key] = storage
            return storage

        with archive.open(f"{root}data.pkl") as data:
            bounds.require("its pickle", archive.getinfo(data.name).file_size, bounds.PICKLE_BYTES)
            return pickles.load(data, _KNOWN, find)  # type: ignore[arg-type]


def read_legacy(file: Path) -> Any:
    """What torch before 1.6 saved, as `read_zip`.

    Raises:
      ValueError: as `read_zip`.
    """
    storages: dict[str, _Storage] = {}

    def find(pid: Any) -> _Storage:
        dtype, key, size = _storage_of(pid)
        if len(pid) > 5 and pid[5] is not None:
            raise ValueError(f"a view of a storage, as very old files have. {_CONVERT}")
        return storages.setdefault(key, _Storage(key, dtype, size))

    with file.open("rb") as data:
        pickles.load(data, {}, _no_storage)
        protocol, _ = (pickles.load(data, {}, _no_storage) for _ in range(2))
        if protocol != _PROTOCOL:
            raise ValueError(f"expected torch's protocol {_PROTOCOL}, got another")
        found = pickles.load(data, _KNOWN, find)
        keys = pickles.load(data, {}, _no_storage)
        if not isinstance(keys, list):
            raise ValueError("it does not list its storages")
        _fill(data, keys, storages)
    lacking = [key for key, storage in storages.items() if storage.values is None]
    if lacking:
        raise ValueError(f"it lacks the storages {', '.join(lacking[:5])}: the file is cut off")
    return found


def _fill(data: BinaryIO, keys: list[Any], storages: Mapping[str, _Storage]) -> None:
    total = os.fstat(data.fileno()).st_size
    for key in keys:
        storage = storages.get(key) if isinstance(key, str) else None
        if storage is None:
            raise ValueError(f"it holds a storage ({pickles.describe(key)}) nothing refers to")
        header = data.read(8)
        if len(header) < 8 or struct.unpack("<q", header)[0] != storage.size:
            raise ValueError(f"storage {key!r}: the file is cut off or damaged")
        bounds.require(f"storage {key!r}", storage.nbytes, total - data.tell())
        storage.fill(data.read(storage.nbytes))
