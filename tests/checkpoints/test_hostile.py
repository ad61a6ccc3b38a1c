"""Checkpoints as people have them, and files made to do harm; all made by hand, without torch."""

import io
import json
import pickle
import resource
import struct
import time
import zipfile
from collections import OrderedDict

import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization
from safetensors.numpy import save_file

from tlx.checkpoints import bounds, torch_files
from tlx.checkpoints.foreign import digest, read_tensors

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


@pytest.mark.parametrize("second", ["state_dict_ema", "model_ema", "ema", "model"])
def test_two_sets_are_told_and_chosen_by_key(tmp_path, second):
    halves = {key: value / 2 for key, value in WEIGHTS.items()}
    other = call("collections", "OrderedDict") + MARK
    other += b"".join(text(k) + tensor(f"half.{k}", v.size) for k, v in halves.items()) + b"u"
    content = mapping(epoch=number(1), state_dict=state(), **{second: other})
    data = WEIGHTS | {f"half.{key}": value for key, value in halves.items()}
    for pickled in (content, mapping(state_dict=state(), **{second: other})):
        file = write(tmp_path / "a.pth", pickled, data)
        with pytest.raises(ValueError, match=rf"sets of weights: state_dict .*{second} .*by --key"):
            read_tensors(file)
        assert_weights(read_tensors(file, key="state_dict"))
        np.testing.assert_array_equal(read_tensors(file, key=second)["fc.bias"], [0.5, 0.5])


def test_keys_within_keys(tmp_path):
    file = write(tmp_path / "a.pth", mapping(nets=mapping(big=state(), step=number(1))))
    assert_weights(read_tensors(file, key="nets.big"))
    with pytest.raises(ValueError, match=r"has no key 'nets.small'; it holds nets"):
        read_tensors(file, key="nets.small")
    with pytest.raises(ValueError, match=r"under 'nets.step' there is 1, no named tensors"):
        read_tensors(file, key="nets.step")


def test_what_is_no_tensor_is_named(tmp_path):
    content = mapping(state_dict=mapping(a=tensor("fc.bias", 2), b=BESIDE["a namespace"]))
    message = r"under 'state_dict' .* also b \(an object of argparse.Namespace\)"
    with pytest.raises(ValueError, match=message):
        read_tensors(write(tmp_path / "a.pth", content))


def test_nested_names_of_flax_stay(tmp_path):
    tree = {"params": {"head": {"kernel": np.ones((2, 3), np.float32)}}}
    (tmp_path / "a").write_bytes(serialization.msgpack_serialize(tree))
    assert set(read_tensors(tmp_path / "a")) == {"params/head/kernel"}


# shards


def sharded(tmp_path, **changes):
    save_file({"a": np.ones(2, np.float32)}, tmp_path / "m-1.safetensors")
    save_file({"b": np.zeros(3, np.float32), "c": np.ones(1)}, tmp_path / "m-2.safetensors")
    places = {"a": "m-1.safetensors", "b": "m-2.safetensors"} | changes
    file = tmp_path / "model.safetensors.index.json"
    file.write_text(json.dumps({"metadata": {"total_size": 20}, "weight_map": places}))
    return file


def test_shards_by_index(tmp_path):
    file = sharded(tmp_path)
    found = read_tensors(file)
    assert {key: value.shape for key, value in found.items()} == {"a": (2,), "b": (3,)}
    before = digest(file)
    save_file({"a": np.zeros(2, np.float32)}, tmp_path / "m-1.safetensors")
    assert digest(file) != before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"a": "m-3.safetensors"}, "lacks its shard m-3.safetensors"),
        ({"d": "m-1.safetensors"}, "m-1.safetensors lacks d, which the index puts there"),
        ({"a": "../m-1.safetensors"}, "shards beside the index, got '../m-1.safetensors'"),
        ({"a": "/etc/passwd"}, "shards beside the index, got '/etc/passwd'"),
        ({"a": ".."}, "shards beside the index"),
        ({"a": 3}, "shards beside the index, got '3'"),
    ],
)
def test_indices_that_are_wrong(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        read_tensors(sharded(tmp_path, **changes))


def test_an_index_without_a_map(tmp_path):
    file = tmp_path / "model.safetensors.index.json"
    for content in ("[]", "{}", '{"weight_map": {}}', "{"):
        file.write_text(content)
        with pytest.raises(ValueError, match=r"index.json: (expected an index|Expecting)"):
            read_tensors(file)


# hostile


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


def test_states_alter_nothing_of_ours(tmp_path):
    known = {name: dict(vars(fn)) | {"": fn.__doc__} for name, fn in torch_files._KNOWN.items()}
    for module, attribute in (
        ("torch._utils", "_rebuild_tensor_v2"),
        ("collections", "OrderedDict"),
    ):
        harm = name(module, attribute) + mapping(__doc__=text("changed"), evil=number(1)) + BUILD
        harm = mapping(state_dict=state(), other=harm)
        assert_weights(read_tensors(write(tmp_path / "a.pth", harm)))
    assert OrderedDict.__doc__ != "changed"
    for key, fn in torch_files._KNOWN.items():
        assert dict(vars(fn)) | {"": fn.__doc__} == known[key]


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


def test_a_pickle_that_inflates(tmp_path):
    blown = b"]" + b"0]" * 15_000_000
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("archive/data.pkl", blown, compress_type=zipfile.ZIP_DEFLATED)
        archive.writestr("archive/large/data.pkl"[:-8] + "x", b"")
    del blown
    assert (tmp_path / "a.pth").stat().st_size < 100_000
    with pytest.raises(ValueError, match=r"its pickle has .* (instructions|bytes)"):
        read_tensors(tmp_path / "a.pth")


@pytest.mark.parametrize("size", [2**31 - 1, 7])
def test_storages_that_are_not_there(tmp_path, size):
    content = mapping(a=tensor("fc.bias", 2, size=size))
    with pytest.raises(ValueError, match=r"holds less than it says|should hold \d+ values"):
        read_tensors(write(tmp_path / "a.pth", content))


def test_members_of_one_name(tmp_path):
    file = tmp_path / "a.pth"
    write(file, mapping(), {"abcdefgh": np.ones(1), "abcdefgi": np.ones(1)})
    file.write_bytes(file.read_bytes().replace(b"abcdefgi", b"abcdefgh"))
    with pytest.raises(ValueError, match="several members of one name"):
        read_tensors(file)


def test_one_storage_many_times(tmp_path):
    large = {"fc.bias": np.ones(2_000_000, np.float32)}
    items = {f"a{i}": tensor("fc.bias", 2_000_000) for i in range(200)}
    with pytest.raises(ValueError, match=r"what it holds has 1,600,000,000 bytes"):
        read_tensors(write(tmp_path / "a.pth", mapping(**items), large))


def npy(shape, data=b"", dtype="<f4"):
    out = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, header)
    return out.getvalue() + data


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (npy((10**13,)), r"a.npy has 40,000,000,000,000 bytes"),
        (npy((1000, 1000)), "a.npy should hold 4,000,000 bytes, but has 0"),
        (npy((2**62, 0, 2**62)), "npz: "),
        (npy((-1,)), "a dimension of a.npy has -1 values"),
        (npy((1,), dtype="|O"), "a.npy holds objects, not numbers"),
        (b"", "npz: "),
        (b"\x93NUMPY\x01\x00\xff\xff{", "npz: "),
    ],
)
def test_arrays_that_claim_more_than_they_hold(tmp_path, member, message):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", member)
    with pytest.raises(ValueError, match=message):
        read_tensors(tmp_path / "a.npz")


def test_arrays_that_inflate(tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w") as member,
    ):
        member.write(npy((25_000_000,)))
        for _ in range(100):
            member.write(bytes(10**6))
    with pytest.raises(ValueError, match="its content has 100,000,128 bytes, expected 0 to 7"):
        read_tensors(tmp_path / "a.npz")


@pytest.mark.parametrize("header", [2**63, 2**40, 2**24 + 1, 9])
def test_headers_of_safetensors(tmp_path, header):
    (tmp_path / "a").write_bytes(struct.pack("<Q", header) + b"{" + b" " * 100)
    with pytest.raises(ValueError, match=r"its header has|damaged"):
        read_tensors(tmp_path / "a")


@pytest.mark.parametrize("content", [b"\x91" * 100_000, b"\x81\xa1a\xdd\xff\xff\xff\xff", b"\xc1"])
def test_msgpack_that_is_none(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match="of no known format"):
        read_tensors(tmp_path / "a")


def test_pickles_of_python_itself_are_read_alike(tmp_path):
    """The interpreter against Python's, on what checkpoints hold beside their weights."""
    value = {"epoch": 3, "names": ["a", "b"], "best": 0.5, "none": None, "yes": True, "t": (1, "x")}
    for protocol in range(5):
        data = pickle.dumps(value, protocol=protocol)
        from tlx.checkpoints import pickles

        assert pickles.load(io.BytesIO(data), {}, None) == value


@pytest.mark.parametrize(
    "kind", ["CharStorage", "IntStorage", "BoolStorage", "ComplexFloatStorage"]
)
def test_other_numbers_come_as_they_are(tmp_path, kind):
    dtype = np.dtype(torch_files._DTYPES[kind])
    data = {"fc.bias": np.ones(2, dtype)}
    found = read_tensors(write(tmp_path / "a.pth", mapping(a=tensor("fc.bias", 2, kind)), data))
    assert found["a"].dtype == dtype


def test_bounds_are_for_real_files():
    assert bounds.PICKLE_STEPS > 35 * 8000
    with pytest.raises(ValueError, match=r"a has more than 10\*\*30 bytes, expected 0 to 3"):
        bounds.require("a", 10**40, 3)
    assert bounds.size("a", (2, 3), jnp.dtype(jnp.bfloat16).itemsize) == 12
