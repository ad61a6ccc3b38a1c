"""Files that would take all memory or time, or change what reads them: refused at once."""

import io
import json
import pickle
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from flax import serialization

from tests.helpers import torch_zip
from tests.helpers.torch_zip import text
from tlx.checkpoints import pickles, torch_files
from tlx.checkpoints.foreign import read_tensors

LEGACY = Path(__file__).parents[1] / "golden" / "foreign" / "legacy.pth"


def refused(file, message):
    """In under a second, and under 200 MB."""
    start = time.process_time()
    with pytest.raises(ValueError, match=message) as raised:
        read_tensors(file)
    assert time.process_time() - start < 1
    assert len(str(raised.value)) < 3000
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            read_tensors(file)
        assert tracemalloc.get_traced_memory()[1] < 200e6
    finally:
        tracemalloc.stop()


def dict_with(key, value):
    return b"}" + text(key) + value + b"s"


def nested(kind, levels=100):
    """Each level holds the one below twice; a few hundred bytes."""
    number = 0
    below = {"list": b"]", "tuple": b")", "dict": b"}", "ordered": b"ccollections\nOrderedDict\n)R"}
    code = below[kind] + b"q\x00"
    for number in range(levels):
        twice = b"h" + bytes([number])
        if kind == "list":
            code += b"](" + twice * 2 + b"e"
        elif kind == "tuple":
            code += twice * 2 + b"\x86"
        else:
            code += below[kind] + b"(" + text("a") + twice + text("b") + twice + b"u"
        code += b"q" + bytes([number + 1])
    return code


@pytest.mark.parametrize("kind", ["list", "tuple", "dict", "ordered"])
@pytest.mark.parametrize("place", ["root", "model", "beside", "key", "argument"])
def test_values_that_hold_each_other(tmp_path, kind, place):
    code = nested(kind)
    if place == "model":
        code = dict_with("model", code)
    elif place == "beside":
        code = dict_with("x", code)
    elif place == "key":
        code = b"}" + code + text("x") + b"s"
    elif place == "argument":
        code = dict_with("model", b"ctorch._utils\n_rebuild_tensor_v2\n(" + code + b"tR")
    torch_zip.save_pickle(tmp_path / "bad.pth", b"\x80\x02" + code + b".")
    refused(tmp_path / "bad.pth", "bad.pth: ")


def test_values_that_hold_themselves(tmp_path):
    code = b"\x80\x02}q\x00" + text("model") + b"h\x00s."
    torch_zip.save_pickle(tmp_path / "bad.pth", code)
    refused(tmp_path / "bad.pth", "bad.pth: ")
    with pytest.raises(ValueError, match=r"expected at most 32 mappings in mappings"):
        read_tensors(tmp_path / "bad.pth", key="model")


@pytest.mark.parametrize("code", [b"]" * 10**6, b"(" * 10**6, b"]" + b"\x85" * 10**6])
def test_depth_and_number_of_instructions(tmp_path, code):
    torch_zip.save_pickle(tmp_path / "bad.pth", b"\x80\x02" + code + b".")
    with pytest.raises(ValueError, match="at most 250,000 instructions, got 250,001"):
        read_tensors(tmp_path / "bad.pth")
    torch_zip.save_pickle(tmp_path / "bad.pth", b"\x80\x02" + code[:20_000] + b".")
    refused(tmp_path / "bad.pth", "bad.pth: ")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (b"\x8a\xff" + b"\x01" * 255, "a number in its pickle: expected at most 16 bytes, got 255"),
        (b"\x8b" + struct.pack("<i", 10**6) + b"\x01" * 10**6, "expected at most 16 bytes"),
        (b"\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01", "its pickle: expected at most"),
        (b"L" + b"9" * 10**6 + b"L\n", "its pickle"),
        (b"\x8d" + struct.pack("<Q", 2**62) + b"a", "its pickle: expected at most 33,554,432"),
        (b"\x8d" + struct.pack("<Q", 2**64 - 1) + b"a", "its pickle"),
        (b"\x8e" + struct.pack("<Q", 2**40) + b"a", "its pickle: expected at most 33,554,432"),
        (b"\x96" + struct.pack("<Q", 2**40) + b"a", "its pickle: expected at most 33,554,432"),
        (b"X" + struct.pack("<I", 2**32 - 1) + b"a", "its pickle: expected at most 33,554,432"),
        (b"\x95" + struct.pack("<Q", 2**62), "its pickle"),
        (b"r" + struct.pack("<I", 2**32 - 1), "its pickle"),
        (b"\x82\x01", "an instruction EXT1, which weights do not need"),
    ],
)  # fmt: skip
def test_sizes_that_a_pickle_claims(tmp_path, code, message):
    torch_zip.save_pickle(tmp_path / "bad.pth", b"\x80\x04" + code + b".")
    refused(tmp_path / "bad.pth", message)
    start = LEGACY.read_bytes()[:15]
    (tmp_path / "old.pth").write_bytes(start + b"\x80\x04" + code + b".")
    refused(tmp_path / "old.pth", message)


def test_names_and_states_change_nothing(tmp_path):
    known = [*torch_files._ALLOWED, pickles.Name("tlx.checkpoints.torch_files", "_rebuild")]
    before = [(vars(f).copy(), f.__doc__) for f in torch_files._ALLOWED.values()]
    state = b"}" + text("__doc__") + text("changed") + b"s"
    slots = b"}" + state + b"\x86"
    for name in known:
        named = f"c{name.module}\n{name.name}\n".encode()
        for target in (named, named + b")R", named + b")\x81", b"(" + named + b"o"):
            for change in (state, slots):
                torch_zip.save_pickle(tmp_path / "a.pth", b"\x80\x02" + target + change + b"b.")
                with pytest.raises(ValueError, match=r"a.pth: "):
                    read_tensors(tmp_path / "a.pth")
    assert [(vars(f).copy(), f.__doc__) for f in torch_files._ALLOWED.values()] == before
    assert np.dtype("float32") == np.float32


@pytest.mark.parametrize("call", [b"(S'x'\ntR", b"S'x'\n\x85\x81", b"S'x'\n\x85}\x92"])
@pytest.mark.parametrize("name", ["posix\nmkdir", "builtins\neval", "tlx.cli\nmain"])
def test_every_way_to_call_leaves_an_object_that_is_inert(tmp_path, monkeypatch, call, name):
    monkeypatch.chdir(tmp_path)
    code = b"\x80\x04c" + name.encode() + b"\n" + call + b"."
    torch_zip.save_pickle(tmp_path / "a.pth", code)
    with pytest.raises(ValueError, match=r"it wants .*nothing was executed"):
        read_tensors(tmp_path / "a.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


@pytest.mark.parametrize("member", ["data.pkl", "data/0", "byteorder"])
def test_members_that_inflate(tmp_path, member):
    torch_zip.save(tmp_path / "good.pth", {"a": torch_zip.Tensor(np.zeros(3, np.float32))})
    with zipfile.ZipFile(tmp_path / "good.pth") as good:
        members = {name: good.read(name) for name in good.namelist()}
    with zipfile.ZipFile(tmp_path / "bad.pth", "w", zipfile.ZIP_DEFLATED) as bad:
        for name, data in members.items():
            if name != f"archive/{member}":
                bad.writestr(name, data)
        with bad.open(f"archive/{member}", "w") as inner:
            for _ in range(100):
                inner.write(bytes(1 << 20))
    refused(tmp_path / "bad.pth", "its compressed members, inflated: expected at most 67,108,864")


def test_members_that_lie_about_their_size(tmp_path):
    torch_zip.save_pickle(tmp_path / "bad.pth", bytes(100 << 20), {}, zipfile.ZIP_DEFLATED)
    data = (tmp_path / "bad.pth").read_bytes()
    true, said = struct.pack("<I", 100 << 20), struct.pack("<I", 1000)
    assert data.count(true) == 2
    (tmp_path / "bad.pth").write_bytes(data.replace(true, said))
    refused(tmp_path / "bad.pth", "bad.pth: ")
    small = io.BytesIO()
    np.savez(small, a=np.zeros(100))
    size = struct.pack("<I", 800 + 128)
    (tmp_path / "bad.npz").write_bytes(small.getvalue().replace(size, struct.pack("<I", 2**31)))
    refused(tmp_path / "bad.npz", "bad.npz: ")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["archive/data.pkl", "a.npy"])
def test_members_that_are_there_twice(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "bad", "w") as archive:
        archive.writestr(name, b"1")
        archive.writestr(name, b"2")
    refused(tmp_path / "bad", f"expected each member once, got '{name}' twice")


def npy(shape, descr="<f8", data=b""):
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (npy((10**13,)), "'a.npy': expected at most .* got 80,000,000,000,000"),
        (npy((10**6,)), r"8,000,000 bytes for 'a.npy' of shape \(1000000,\) and float64"),
        (npy((-1,), data=bytes(8)), "a length of 'a.npy'"),
        (npy((2**62, 2**62), data=bytes(8)), "'a.npy': expected at most"),
        (npy((1,) * 40, data=bytes(8)), "expected at most 32 dimensions"),
        (npy("(" * 300 + ")" * 300), "bad.npz: "),
        (npy((1,), "|O", bytes(8)), "expected an array of numbers, got object"),
        (npy((1,), "|V1000000000000"), "bad.npz: "),
        (b"", "bad.npz: "),
        (npy((1,))[:20], "bad.npz: "),
    ],
)  # fmt: skip
def test_sizes_that_an_npz_claims(tmp_path, data, message):
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
        archive.writestr("a.npy", data)
    refused(tmp_path / "bad.npz", message)


def safetensors(header, data=bytes(8), length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "content",
    [
        safetensors({"a": entry([2], 0, 8)}, length=2**40),
        safetensors({"a": entry([2], 0, 8)}, length=2**63),
        safetensors({"a": entry([2], 0, 8)}, length=1000),
        safetensors({"a": entry([2], 0, 8), "b": entry([2], 0, 8)}),
        safetensors({"a": entry([2], 4, 12)}),
        safetensors({"a": entry([1], 0, 4)}),
        safetensors({"a": entry([2**40, 2**40], 0, 8)}),
        safetensors({"a": entry([2], 8, 0)}),
        safetensors({"a": entry([-2], 0, 8)}),
        safetensors(b'{"a":' * 100_000),
        safetensors({"a": entry([1], 0, 8, "C64")}),
    ],
)
def test_headers_of_safetensors(tmp_path, content):
    (tmp_path / "bad.safetensors").write_bytes(content)
    refused(tmp_path / "bad.safetensors", r"bad.safetensors: .*(expected at most|damaged|of type)")


@pytest.mark.parametrize(
    "content",
    [
        b"\x91" * 10**6,
        b"\x81\xa1a" * 10**5 + b"\xc0",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\xdd\x00\x0f\x42\x40" + b"\x80" * 10**6,
        b"\x81\xa1a\xc9\x00\x0f\x42\x45\x01\xdd\x00\x0f\x42\x40" + b"\x80" * 10**6,
        b"\xc7\x03\x07abc",
        b"\xc1",
    ],
)
def test_msgpack_that_is_deep_or_claims_much(tmp_path, content):
    (tmp_path / "bad").write_bytes(content)
    refused(tmp_path / "bad", "bad: of no known format")


def test_msgpack_of_every_type_is_read(tmp_path):
    values = [0, -1, 127, 200, -200, 70000, -70000, 2**40, -(2**40), 0.5, None, True, "a" * 40]
    values += ["a" * 300, "a" * 70000, b"a", b"a" * 300, b"a" * 70000, list(range(20)), 1j]
    more = {str(number): value for number, value in enumerate([*values, np.float32(3)])}
    arrays = {f"a.{n}": np.arange(n, dtype=np.int8) for n in (0, 1, 2, 5, 300, 70000)}
    content = {"model": arrays, "more": more, "long": [more] * 20, "list": [0] * 70000}
    (tmp_path / "a").write_bytes(serialization.msgpack_serialize(content))
    found = read_tensors(tmp_path / "a")
    assert set(found) == set(arrays)
    for name, value in arrays.items():
        np.testing.assert_array_equal(found[name], value)


def tensor_code(number, size, shape, strides, offset=0):
    """The instructions of one tensor of a storage."""

    def integers(values):
        return b"(" + b"".join(b"I%d\n" % value for value in values) + b"t"

    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + b"ctorch\nFloatStorage\n"
        + text(str(number)) + text("cpu") + b"I%d\nt" % size + b"QI%d\n" % offset
        + integers(shape) + integers(strides) + b"I00\nNtR"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("size", "shape", "strides", "offset"),
    [
        (4, (5,), (1,), 0),
        (4, (2,), (1,), 3),
        (4, (4,), (1,), -1),
        (4, (-4,), (1,), 0),
        (4, (4,), (-1,), 3),
        (4, (2**40,), (0,), 0),
        (4, (2**62, 2**62), (0, 0), 0),
        (4, (0, 2**62), (1, 1), 0),
        (4, (4,), (1, 1), 0),
        (4, (1,) * 40, (1,) * 40, 0),
        (2**40, (4,), (1,), 0),
        (2**100, (4,), (1,), 0),
        (-4, (4,), (1,), 0),
    ],
)
def test_shapes_and_strides_beyond_a_storage(tmp_path, size, shape, strides, offset):
    code = dict_with("a", tensor_code(0, size, shape, strides, offset))
    torch_zip.save_pickle(tmp_path / "bad.pth", b"\x80\x02" + code + b".", {"0": bytes(16)})
    refused(tmp_path / "bad.pth", "bad.pth: ")


def test_many_tensors_of_one_storage(tmp_path):
    size = 1 << 20
    one = tensor_code(0, size, (size,), (1,))
    for tensors, is_read in ((8, True), (60, False)):
        items = b"".join(text(f"a.{number}") + one for number in range(tensors))
        code = b"\x80\x02}(" + items + b"u."
        torch_zip.save_pickle(tmp_path / "a.pth", code, {"0": bytes(4 * size)})
        if is_read:
            assert len(read_tensors(tmp_path / "a.pth")) == tensors
        else:
            refused(tmp_path / "a.pth", "all its tensors together: expected at most 67,108,864")


def test_a_storage_in_a_legacy_file_that_claims_much(tmp_path):
    code = dict_with("a", tensor_code(0, 2**34, (4,), (1,)))
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {})]
    parts += [b"\x80\x02" + code + b".", pickle.dumps(["0"], 2), struct.pack("<q", 2**34)]
    (tmp_path / "bad.pth").write_bytes(b"".join(parts) + bytes(16))
    refused(tmp_path / "bad.pth", "17179869184 values of float32 in storage .*, got 16 bytes")
