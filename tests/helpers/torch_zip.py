"""Files as torch.save writes them, without torch."""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np

_STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "int8": "CharStorage",
    "int64": "LongStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
    "complex64": "ComplexFloatStorage",
}


class Global:
    """A name in a pickle that need not be importable here."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __call__(self, *_):
        raise AssertionError("a name is not called")


class Tensor:
    """An array that is written as torch writes its tensors."""

    def __init__(self, values, kind=None):
        self.values = np.asarray(values)
        self.kind = kind or _STORAGES[str(self.values.dtype)]


class _Storage(Tensor):
    """Its values alone."""


class _Pickler(pickle._Pickler):
    def __init__(self, file):
        super().__init__(file, protocol=2)
        self.storages = []

    def _save_global(self, name):
        self.write(f"c{name.module}\n{name.name}\n".encode())

    dispatch = pickle._Pickler.dispatch | {Global: _save_global}

    def persistent_id(self, obj):
        if not isinstance(obj, _Storage):
            return None
        self.storages.append(np.ascontiguousarray(obj.values).tobytes())
        key = str(len(self.storages) - 1)
        return ("storage", Global("torch", obj.kind), key, "cpu", obj.values.size)

    def reducer_override(self, obj):
        if type(obj) is not Tensor:
            return NotImplemented
        values = np.ascontiguousarray(obj.values).reshape(obj.values.shape)
        strides = tuple(step // values.itemsize for step in values.strides)
        storage = _Storage(values, obj.kind)
        arguments = (storage, 0, values.shape, strides, False, OrderedDict())
        return Global("torch._utils", "_rebuild_tensor_v2"), arguments


def tensors(arrays):
    """A state dict of arrays."""
    return OrderedDict((name, Tensor(value)) for name, value in arrays.items())


def save(file, content):
    """Writes content with `Tensor` in it as torch.save does."""
    stream = io.BytesIO()
    pickler = _Pickler(stream)
    pickler.dump(content)
    members = {str(number): data for number, data in enumerate(pickler.storages)}
    save_pickle(file, stream.getvalue(), members)


def save_pickle(file, pickled, members=None, compression=zipfile.ZIP_STORED):
    """Writes a pickle, in bytes, and storages as torch.save does."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled, compress_type=compression)
        for name, data in (members or {}).items():
            archive.writestr(f"archive/data/{name}", data)


def text(value):
    """The instruction that puts a text on the stack."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data
