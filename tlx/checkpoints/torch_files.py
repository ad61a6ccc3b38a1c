"""Files of torch.save without torch: tensors come out, and nothing in a file is executed.

A pickle can name any function and call it. Here only the names that rebuild tensors and plain
containers are known, each as a function of our own; any other name is an error.
"""

import io
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax.numpy as jnp
import numpy as np

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
    "UntypedStorage": np.uint8,
}


class _Kind(NamedTuple):
    """A class of storages: what its values are."""

    dtype: np.dtype


class _Storage:
    """Values in the file; of old files they come after the pickle that refers to them."""

    def __init__(self, key: str, dtype: np.dtype, size: int) -> None:
        self.key, self.dtype, self.size = key, dtype, size
        self.values: np.ndarray | None = None

    def fill(self, data: bytes) -> None:
        if len(data) != self.size * self.dtype.itemsize:
            raise ValueError(
                f"storage {self.key!r} should hold {self.size} values of {self.dtype}, but has "
                f"{len(data)} bytes: the file is cut off or damaged"
            )
        self.values = np.frombuffer(data, self.dtype.newbyteorder("<"))


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> np.ndarray:
        """The values, copied; as the shape and strides, in values, say."""
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
            return np.zeros(self.shape, self.storage.dtype)
        width = values.itemsize
        start = values[self.offset :]
        seen = np.lib.stride_tricks.as_strided(start, self.shape, [s * width for s in self.strides])
        return np.array(seen, self.storage.dtype)


def _rebuild(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor is not made of a storage")
    sizes = tuple(int(n) for n in shape), tuple(int(n) for n in strides)
    return _Tensor(storage, int(offset), *sizes)


class _Dtype:
    """numpy's dtype in a pickle, as far as numbers go."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = str(code)

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like, which do not matter to what is read."""


def _scalar(dtype: Any, data: Any = b"") -> Any:
    """A numpy number, such as a best accuracy that was saved beside the weights."""
    is_number = isinstance(dtype, _Dtype) and dtype.code[:1] in "fiub"
    if not is_number or not isinstance(data, bytes):
        raise ValueError("a numpy value that is not a number")
    return np.frombuffer(data, np.dtype(dtype.code).newbyteorder("<"))[0]


def _encode(text: Any, coding: Any) -> bytes:
    """How bytes are written in pickles of protocol 2."""
    if coding != "latin1" or not isinstance(text, str):
        raise ValueError(f"a text in the coding {coding!r}")
    return text.encode("latin1")


def _first(value: Any, *_: Any) -> Any:
    return value


def _nothing(*_: Any) -> None:
    return None


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _rebuild,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch", "Size"): tuple,
    ("torch", "device"): _nothing,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    **{("torch", name): _Kind(np.dtype(dtype)) for name, dtype in _DTYPES.items()},
    ("torch.storage", "UntypedStorage"): _Kind(np.dtype(np.uint8)),
}


class _Reader(pickle.Unpickler):
    """A pickle whose names are `_KNOWN` ones."""

    def __init__(self, file: BinaryIO, find: Callable[[Any], _Storage]) -> None:
        super().__init__(file)
        self._find = find

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise ValueError(
                f"it wants {module}.{name}, which is not among what weights are made of; nothing "
                f"was executed. {_CONVERT}"
            )
        return _KNOWN[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        return self._find(pid)


def _unpickle(file: BinaryIO, find: Callable[[Any], _Storage]) -> Any:
    try:
        return _Reader(file, find).load()
    except ValueError:
        raise
    except Exception as error:  # what a damaged pickle raises can be anything
        raise ValueError(f"its pickle cannot be read ({type(error).__name__}: {error})") from error


def _no_storage(pid: Any) -> _Storage:
    raise ValueError("a storage where none belongs")


def _storage_of(pid: Any) -> tuple[_Kind, str, int]:
    """What a reference to a storage says: kind, key and number of values."""
    is_one = isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage"
    if not is_one or not isinstance(pid[1], _Kind) or not isinstance(pid[4], int):
        raise ValueError("a reference that is not to a storage")
    return pid[1], str(pid[2]), pid[4]


def read_zip(file: Path) -> Any:
    """What torch 1.6 or later saved, its tensors as numpy arrays.

    Raises:
      ValueError: if the file is damaged or asks for what is not known.
    """
    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
        (root,) = {name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")}
        order = f"{root}byteorder"
        if order in names and archive.read(order) != b"little":
            raise ValueError("its values are in big-endian order, which is not read here")
        storages: dict[str, _Storage] = {}

        def find(pid: Any) -> _Storage:
            kind, key, size = _storage_of(pid)
            member = f"{root}data/{key}"
            if key not in storages:
                if member not in names:
                    raise ValueError(f"it lacks the storage {key!r}")
                if archive.getinfo(member).compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"the storage {key!r} is compressed, as torch never does it")
                storages[key] = _Storage(key, kind.dtype, size)
                storages[key].fill(archive.read(member))
            return storages[key]

        found = _unpickle(io.BytesIO(archive.read(f"{root}data.pkl")), find)
    return _arrays(found)


def read_legacy(file: Path) -> Any:
    """What torch before 1.6 saved, its tensors as numpy arrays.

    Raises:
      ValueError: as `read_zip`.
    """
    storages: dict[str, _Storage] = {}

    def find(pid: Any) -> _Storage:
        kind, key, size = _storage_of(pid)
        if len(pid) > 5 and pid[5] is not None:
            raise ValueError(f"a view of a storage, as very old files have. {_CONVERT}")
        return storages.setdefault(key, _Storage(key, kind.dtype, size))

    with file.open("rb") as data:
        _unpickle(data, _no_storage)
        protocol, _ = _unpickle(data, _no_storage), _unpickle(data, _no_storage)
        if protocol != _PROTOCOL:
            raise ValueError(f"expected torch's protocol {_PROTOCOL}, got {protocol!r}")
        found = _unpickle(data, find)
        for key in _unpickle(data, _no_storage):
            storage = storages.get(key)
            if storage is None:
                raise ValueError(f"it holds a storage {key!r} that nothing refers to")
            header = data.read(8)
            if len(header) < 8 or struct.unpack("<q", header)[0] != storage.size:
                raise ValueError(f"storage {key!r}: the file is cut off or damaged")
            storage.fill(data.read(storage.size * storage.dtype.itemsize))
    lacking = [key for key, storage in storages.items() if storage.values is None]
    if lacking:
        raise ValueError(f"it lacks the storages {', '.join(lacking[:5])}: the file is cut off")
    return _arrays(found)


def _arrays(value: Any) -> Any:
    """The same with arrays for tensors, in dicts and lists at any depth."""
    if isinstance(value, _Tensor):
        return value.array()
    if isinstance(value, Mapping):
        return {key: _arrays(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_arrays(item) for item in value]
    return value
