"""Files of torch.save without torch: tensors come out, and nothing in a file is executed."""

import io
import math
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax.numpy as jnp
import numpy as np

from tlx.checkpoints import archives, bounds, pickles
from tlx.checkpoints.pickles import Inert, Name

LEGACY_START = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
"""How files of torch before 1.6 begin: a pickle of their magic number."""

CONVERT = (
    "where you trust the file, torch.load it and save its state dict with "
    "safetensors.torch.save_file"
)
_PROTOCOL = 1001
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
        self.key, self.dtype, self.size = key, dtype, size
        self.values: np.ndarray | None = None

    def require(self, length: int) -> None:
        """Raises unless the file has as many bytes as the values take."""
        if length != self.size * self.dtype.itemsize:
            raise ValueError(
                f"expected {self.size} values of {self.dtype} in storage {self.key!r}, got "
                f"{length} bytes: the file is cut off or damaged"
            )

    def fill(self, data: bytes) -> None:
        self.require(len(data))
        self.values = np.frombuffer(data, self.dtype.newbyteorder("<"))


class Tensor(NamedTuple):
    """Values of a storage, as a shape and strides in values say."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> np.ndarray:
        """The values, in the file's memory: none is copied.

        Raises:
          ValueError: if they reach beyond the storage.
        """
        values, numbers = self.storage.values, (self.offset, *self.shape, *self.strides)
        assert values is not None
        if len(self.shape) != len(self.strides) or min(numbers) < 0:
            raise ValueError(f"a tensor has shape {self.shape} and strides {self.strides}")
        size = math.prod(self.shape)
        steps = zip(self.shape, self.strides, strict=True)
        last = self.offset + sum((length - 1) * stride for length, stride in steps)
        if size and (last >= len(values) or size > len(values)):
            raise ValueError(
                f"a tensor of shape {self.shape} reaches value {last} of a storage with "
                f"{len(values)}: the file is damaged"
            )
        if not size:
            bounds.require(
                "the longest side of an empty tensor", max(self.shape), 1 << 31, "values"
            )
            return np.zeros(self.shape, self.storage.dtype)
        start, width = values[self.offset :], values.itemsize
        seen = np.lib.stride_tricks.as_strided(
            start, self.shape, [s * width for s in self.strides], writeable=False
        )
        return seen.astype(self.storage.dtype, copy=False)


def _rebuild(storage: Any = None, offset: Any = None, *more: Any) -> Tensor | Inert:
    if isinstance(storage, Inert):
        return storage
    shape, strides = (*more[:2], None, None)[:2]
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor in its pickle is not made of a storage")
    if not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise ValueError("a tensor in its pickle has no shape and strides")
    bounds.require("a tensor", max(len(shape), len(strides)), bounds.DEPTH, "dimensions")
    if any(type(number) is not int for number in (offset, *shape, *strides)):
        raise ValueError("expected shapes of integers in its pickle, got another")
    return Tensor(storage, offset, shape, strides)


def _first(value: Any = None, *_: Any) -> Any:
    return value


_ALLOWED: dict[Name, Callable[..., Any]] = {
    Name("collections", "OrderedDict"): lambda *_: {},
    Name("collections", "defaultdict"): lambda *_: {},
    Name("torch._utils", "_rebuild_tensor"): _rebuild,
    Name("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    Name("torch._utils", "_rebuild_parameter"): _first,
    Name("torch._utils", "_rebuild_parameter_with_state"): _first,
}


def _unpickle(file: BinaryIO, find: Callable[[Any], Any]) -> Any:
    return pickles.load(file, _ALLOWED, find)


def _no_storage(pid: Any) -> Any:
    raise ValueError("its pickle has a storage where none belongs")


def _storage_of(pid: Any) -> tuple[np.dtype | None, str, int]:
    """What a reference to a storage says: its type (None: not known), key and number of values."""
    is_one = isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage"
    if not is_one or not isinstance(pid[1], Name) or not isinstance(pid[2], str | int):
        raise ValueError("its pickle has a reference that is not to a storage")
    if type(pid[4]) is not int:
        raise ValueError(f"the storage {pid[2]!r} has no number of values")
    dtype = _DTYPES.get(pid[1].name) if pid[1].module.split(".")[0] == "torch" else None
    bounds.require(f"the storage {pid[2]!r}", pid[4], bounds.TENSOR_BYTES, "values")
    return None if dtype is None else np.dtype(dtype), str(pid[2]), pid[4]


def read_zip(file: Path) -> Any:
    """What torch 1.6 or later saved: `pickles.load`'s, with a `Tensor` for each tensor.

    Raises:
      ValueError: if the file is damaged or claims more than it has.
    """
    with archives.open_zip(file) as archive:
        names = set(archive.namelist())
        roots = {name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")}
        if len(roots) != 1:
            raise ValueError(f"expected one member data.pkl, got {len(roots)}")
        (root,) = roots
        order = f"{root}byteorder"
        if order in names and archives.member(archive, order, most=64) != b"little":
            raise ValueError("its values are in big-endian order, which is not read here")
        storages: dict[str, Any] = {}

        def find(pid: Any) -> Any:
            dtype, key, size = _storage_of(pid)
            if dtype is None:
                return Inert(str(pid[1]))
            if key not in storages:
                if f"{root}data/{key}" not in names:
                    raise ValueError(f"expected the storage {key!r}, got none")
                storages[key] = _read_storage(archive, f"{root}data/{key}", key, dtype, size)
            return storages[key]

        pickle = archives.member(archive, f"{root}data.pkl", most=bounds.PICKLE_BYTES)
        return _unpickle(io.BytesIO(pickle), find)


def _read_storage(
    archive: zipfile.ZipFile, member: str, key: str, dtype: np.dtype, size: int
) -> _Storage:
    info = archive.getinfo(member)
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"the storage {key!r} is compressed, as torch never does it")
    storage = _Storage(key, dtype, size)
    storage.require(info.file_size)
    storage.fill(archives.member(archive, member, most=info.file_size))
    return storage


def read_legacy(file: Path) -> Any:
    """What torch before 1.6 saved, as `read_zip`.

    Raises:
      ValueError: as `read_zip`.
    """
    storages: dict[str, _Storage] = {}

    def find(pid: Any) -> Any:
        dtype, key, size = _storage_of(pid)
        if dtype is None:
            raise ValueError(f"a storage {pid[1]}, which is not read. {CONVERT}")
        if len(pid) > 5 and pid[5] is not None:
            raise ValueError(f"a view of a storage, as very old files have. {CONVERT}")
        return storages.setdefault(key, _Storage(key, dtype, size))

    end = file.stat().st_size
    with file.open("rb") as data:
        _unpickle(data, _no_storage)
        protocol, _ = _unpickle(data, _no_storage), _unpickle(data, _no_storage)
        if type(protocol) is not int or protocol != _PROTOCOL:
            raise ValueError(f"expected torch's protocol {_PROTOCOL}, got another")
        found = _unpickle(data, find)
        keys = _unpickle(data, _no_storage)
        if not isinstance(keys, list):
            raise ValueError("it has no list of its storages")
        for key in keys:
            storage = storages.get(key) if isinstance(key, str) else None
            if storage is None or storage.values is not None:
                raise ValueError("it holds a storage that nothing refers to, or one twice")
            header = data.read(8)
            if len(header) < 8 or struct.unpack("<q", header)[0] != storage.size:
                raise ValueError(f"storage {key!r}: the file is cut off or damaged")
            length = storage.size * storage.dtype.itemsize
            storage.require(min(length, end - data.tell()))
            storage.fill(data.read(length))
    lacking = [key for key, storage in storages.items() if storage.values is None]
    if lacking:
        raise ValueError(
            f"expected the storages {', '.join(lacking[:5])}, got none: the file is cut off"
        )
    return found
