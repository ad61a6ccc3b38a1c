"""Checkpoints as people have them, and files made to do harm; all made by hand, without torch."""

import io
import pickle
import resource
import struct
import time
import zipfile

import numpy as np
import pytest

from tlx.checkpoints.foreign import read_tensors

MARK, TUPLE, REDUCE, BUILD = b"(", b"t", b"R", b"b"
WEIGHTS = {"conv.weight": np.arange(6.0, dtype=np.float32), "fc.bias": np.ones(2, np.float32)}


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value):
    return b"J" + struct.pack("<i", value)


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def call(module, attribute, *args):
    return name(module, attribute) + MARK + b"".join(args) + TUPLE + REDUCE


def mapping(**items):
    return b"}" + MARK + b"".join(text(key) + value for key, value in items.items()) + b"u"


def tensor(key, count, kind="FloatStorage", size=None):
    storage = MARK + text("storage") + name("torch", kind) + text(key) + text("cpu")
    storage += number(count if size is None else size) + TUPLE + b"Q"
    shape = MARK + number(count) + TUPLE
    strides = MARK + number(1) + TUPLE
    hooks = call("collections", "OrderedDict")
    args = (storage, number(0), shape, strides, b"\x89", hooks)
    return call("torch._utils", "_rebuild_tensor_v2", *args)


def state(tensors=WEIGHTS, prefix=""):
    """An OrderedDict with the metadata that torch sets as its state."""
    items = b"".join(text(prefix + key) + tensor(key, v.size) for key, v in tensors.items())
    made = call("collections", "OrderedDict") + MARK + items + b"u"
    return made + mapping(_metadata=mapping()) + BUILD


def write(file, pickled, tensors=WEIGHTS, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(file, "w") as archive:
        data = b"\x80\x02" + pickled + b"."
        archive.writestr("archive/data.pkl", data, compress_type=compression)
        for key, value in tensors.items():
            archive.writestr(f"archive/data/{key}", value.tobytes())
    return file


def assert_weights(found, prefix=""):
    assert set(found) == {prefix + key for key in WEIGHTS}
    for key, value in WEIGHTS.items():
        np.testing.assert_array_equal(found[prefix + key], value)


@pytest.fixture(autouse=True)
def in_a_second_and_200_mb():
    """No file of some kilobytes costs more, whatever it says."""
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    yield
    assert time.process_time() - started < 1
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 200


@pytest.mark.parametrize("key", ["model", "state_dict", "net", "params", "model_state_dict"])
def test_weights_alone_under_a_known_key(tmp_path, key):
    assert_weights(read_tensors(write(tmp_path / "a.pth", mapping(**{key: state()}))))


BESIDE = {
    "a namespace": call("argparse", "Namespace") + mapping(lr=number(1)) + BUILD,
    "an array": call(
        "numpy.core.multiarray", "_reconstruct", name("numpy", "ndarray"), MARK + number(0) + TUPLE
    )
    + MARK + number(1) + MARK + number(2) + TUPLE + TUPLE + BUILD,
    "a dtype": call("numpy", "dtype", text("f8"), b"\x89", b"\x88"),
    "torch's dtype": name("torch", "float32"),
    "a path": call("pathlib", "PosixPath", text("/"), text("tmp")),
    "a set": call("__builtin__", "set", b"](" + number(1) + b"e"),
    "a defaultdict": call("collections", "defaultdict", name("__builtin__", "list")),
    "a user's class": b"\x80\x02" + name("my.models", "Config") + b")\x81" + mapping() + BUILD,
    "an enum": call("my.models", "Mode", number(2)),
    "a date": call("datetime", "datetime", text("x")),
    "an optimiser": mapping(state=mapping(), param_groups=b"](" + mapping(lr=number(1)) + b"e"),
    "an old object": MARK + name("my.models", "Old")[:0] + b"imy.models\nOld\n",
    "a device": call("torch", "device", text("cpu")),
}  # fmt: skip


@pytest.mark.parametrize("what", BESIDE)
def test_anything_may_lie_beside_the_weights(tmp_path, what):
    content = mapping(epoch=number(3), state_dict=state(), other=BESIDE[what])
    assert_weights(read_tensors(write(tmp_path / "a.pth", content)))


def test_no_class_of_anyone_is_imported_or_called(tmp_path):
    harm = call("os", "mkdir", text(str(tmp_path / "sentinel")))
    content = mapping(state_dict=state(), other=harm)
    assert_weights(read_tensors(write(tmp_path / "a.pth", content)))
    assert not (tmp_path / "sentinel").exists()


def shared(levels, first, second, close):
    """Containers of which each holds the one before it twice: 2**levels paths in a few bytes."""
    out = b"]q\x00"
    for i in range(levels):
        get = b"h" + bytes([i])
        out += first + get + second + get + close + b"q" + bytes([i + 1])
    return out


LAUGHS = {
    "lists": shared(100, b"](", b"", b"e"),
    "tuples": shared(100, b"(", b"", b"t"),
    "dicts": shared(100, b"}(" + text("a"), text("b"), b"u").replace(b"]q\x00", b"}q\x00", 1),
    "a dict that holds itself": b"}q\x00(" + text("a") + b"h\x00u",
    "a list that holds itself": b"]q\x00h\x00a",
}  # fmt: skip


@pytest.mark.parametrize("what", LAUGHS)
@pytest.mark.parametrize("place", ["alone", "beside", "within"])
def test_few_bytes_that_hold_each_other(tmp_path, what, place):
    laugh = LAUGHS[what]
    if place == "beside":
        content = mapping(state_dict=state(), other=laugh)
        assert_weights(read_tensors(write(tmp_path / "a.pth", content)))
        return
    content = laugh if place == "alone" else mapping(state_dict=laugh)
    with pytest.raises(ValueError, match=r"a\.pth: "):
        read_tensors(write(tmp_path / "a.pth", content))


LONG = {
    "a number of 8 kB": b"\x8b" + struct.pack("<i", 8192) + bytes(8191) + b"\x01",
    "a number that is not there": b"\x8b" + struct.pack("<i", 2**31 - 1),
    "a text that is not there": b"\x8d" + struct.pack("<Q", 2**62),
    "bytes that are not there": b"\x8e" + struct.pack("<Q", 2**40),
    "a number in digits": b"L" + b"9" * 10_000 + b"L\n",
    "a line without an end": b"c" + b"a" * 100_000,
    "no end": b"](" * 1000,
    "marks": b"(" * 50_000 + b"t" * 50_000,
    "calls of a long list": b"](" + b"N" * 3000 + b"eq\x00" + b"".join(
        name("torch", "Size") + b"(h\x00tR0" for _ in range(5000)
    ),
    "what is not on the stack": b"0000",
    "an extension": b"\x82\x01",
}  # fmt: skip


@pytest.mark.parametrize("what", LONG)
def test_pickles_beyond_their_bounds(tmp_path, what):
    with pytest.raises(ValueError, match=r"a\.pth: "):
        read_tensors(write(tmp_path / "a.pth", LONG[what]))


@pytest.mark.parametrize("size", [2**31 - 1, 7])
def test_storages_that_are_not_there(tmp_path, size):
    content = mapping(a=tensor("fc.bias", 2, size=size))
    with pytest.raises(ValueError, match=r"expected \d+ values"):
        read_tensors(write(tmp_path / "a.pth", content))


def test_pickles_of_python_itself_are_read_alike(tmp_path):
    """The interpreter against Python's, on what checkpoints hold beside their weights."""
    value = {"epoch": 3, "names": ["a", "b"], "best": 0.5, "none": None, "yes": True, "t": (1, "x")}
    for protocol in range(5):
        data = pickle.dumps(value, protocol=protocol)
        from tlx.checkpoints import pickles

        assert pickles.load(io.BytesIO(data), {}, None) == value
