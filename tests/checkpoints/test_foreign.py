"""Files of other libraries: read without them, and nothing in them executed."""

import io
import os
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization

from tlx.checkpoints.foreign import read_tensors, write_safetensors

FILES = Path(__file__).parents[1] / "golden" / "foreign"


def expected():
    """What tests/helpers/make_foreign.py saved."""
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    return {
        "plain": base,
        "turned": base.T,
        "part": base[1:3, ::2],
        "half": (base / 8).astype(np.float16),
        "brain": np.asarray(base / 8, jnp.bfloat16),
        "count": np.array(7, np.int64),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 3), np.float32),
    }


def assert_same(found, wanted):
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert (found[name].shape, found[name].dtype) == (value.shape, value.dtype), name
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("name", ["zip", "legacy"])
def test_torch_files(name):
    assert_same(read_tensors(FILES / f"{name}.pth"), expected())
    nested = FILES / f"nested_{name}.pth"
    assert_same(read_tensors(nested, key="state_dict"), expected())
    message = r"weights in one place, got net, state_dict; choose one by --key \(the argument key\)"
    with pytest.raises(ValueError, match=message):
        read_tensors(nested)


def test_parts_of_one_storage_and_parameters():
    found = read_tensors(FILES / "nested_zip.pth", key="net")
    assert_same(found, {"weight": expected()["plain"]})


def test_other_formats(tmp_path):
    tensors = expected()
    plain = {name: v for name, v in tensors.items() if name not in ("brain", "turned", "part")}
    np.savez(tmp_path / "a.npz", **plain)
    assert_same(read_tensors(tmp_path / "a.npz"), plain)
    write_safetensors(tmp_path / "a.st", plain | {"turned": tensors["turned"]}, {"from": "a test"})
    assert_same(read_tensors(tmp_path / "a.st"), plain | {"turned": tensors["turned"]})
    nested = {"params": {"a": {"kernel": tensors["plain"]}}, "batch_stats": {"b": tensors["half"]}}
    (tmp_path / "a.msgpack").write_bytes(serialization.msgpack_serialize(nested))
    found = read_tensors(tmp_path / "a.msgpack")
    assert_same(found, {"params/a/kernel": tensors["plain"], "batch_stats/b": tensors["half"]})


def test_safetensors_of_every_type_that_torch_has():
    assert_same(read_tensors(FILES / "types.safetensors"), expected())


class Harm:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def zipped(file, content, **members):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(content, protocol=2))
        for name, data in members.items():
            archive.writestr(f"archive/data/{name}", data)


def legacy(file, content):
    parts = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, content, [])
    file.write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in parts))


@pytest.mark.parametrize("write", [zipped, legacy])
@pytest.mark.parametrize("depth", [0, 2])
def test_nothing_is_executed(tmp_path, write, depth):
    content = Harm(tmp_path / "sentinel")
    for _ in range(depth):
        content = OrderedDict(state_dict=content)
    write(tmp_path / "bad.pth", content)
    with pytest.raises(ValueError, match=r"bad.pth: it wants \w+.mkdir, .* nothing was executed"):
        read_tensors(tmp_path / "bad.pth")
    assert not (tmp_path / "sentinel").exists()


@pytest.mark.parametrize("name", ["builtins.eval", "torch.load", "torch._utils._rebuild_qtensor"])
def test_only_known_names_are_called(tmp_path, name):
    module, _, function = name.rpartition(".")
    pickled = f"c{module}\n{function}\n(S'1'\ntR.".encode()
    with zipfile.ZipFile(tmp_path / "bad.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
    with pytest.raises(ValueError, match=f"it wants {name}, which is not among"):
        read_tensors(tmp_path / "bad.pth")


def with_numbers(old, new):
    """A zip file of one tensor of four values, with one number of its pickle changed."""
    source = zipfile.ZipFile(FILES / "one.pth")
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("data.pkl"):
                assert data.count(old) == 1
                data = data.replace(old, new)
            archive.writestr(name, data)
    return target.getvalue()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"K\x00K\x05\x85", b"K\x02K\x05\x85", "reaches value 6 of a storage with 5"),
        (b"K\x05\x85", b"J\xff\xff\xff\x7f\x85", "reaches value 2147483646 of a storage with 5"),
        (b"K\x05\x85", b"J\xff\xff\xff\xff\x85", "a tensor has shape"),
        (b"K\x05tq", b"K\x06tq", "6 values of float32 in storage .*, got 20 bytes"),
    ],
)
def test_numbers_beyond_the_file(tmp_path, old, new, message):
    (tmp_path / "bad.pth").write_bytes(with_numbers(old, new))
    with pytest.raises(ValueError, match=message):
        read_tensors(tmp_path / "bad.pth")


def test_a_small_storage_is_not_blown_up(tmp_path):
    shape = b"K\x05\x85q"
    data = zipfile.ZipFile(FILES / "one.pth").read("one/data.pkl")
    start = data.index(shape)
    stride = data.index(b"K\x01\x85q", start)
    changed = data[:start] + b"J\xff\xff\xff\x7f\x85q" + data[start + 4 : stride]
    changed += b"K\x00\x85q" + data[stride + 4 :]
    zipped(tmp_path / "bad.pth", {})
    with zipfile.ZipFile(tmp_path / "bad.pth", "w") as archive:
        archive.writestr("one/data.pkl", changed)
        archive.writestr("one/data/0", bytes(20))
    with pytest.raises(ValueError, match=r"shape \(2147483647,\) reaches value 0 of a storage"):
        read_tensors(tmp_path / "bad.pth")


@pytest.mark.parametrize("name", ["zip", "legacy", "types"])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_files_that_are_cut_off(tmp_path, name, share):
    (source,) = FILES.glob(f"{name}.*")
    data = source.read_bytes()
    (tmp_path / "cut").write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=r"cut: .*(cut off|damaged|pickle|format)"):
        read_tensors(tmp_path / "cut")


def test_what_is_not_weights(tmp_path):
    file = tmp_path / "file"
    with pytest.raises(ValueError, match="expected a file of weights, but there is no"):
        read_tensors(file)
    file.write_text("not a checkpoint at all")
    with pytest.raises(ValueError, match="of no known format"):
        read_tensors(file)
    file.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match="a pickle that torch did not write"):
        read_tensors(file)
    with tarfile.open(file, "w") as archive:
        archive.add(FILES / "one.pth", "one.pth")
    with pytest.raises(ValueError, match="a tar archive"):
        read_tensors(file)
    zipped(file, {"epoch": 3, "weights": {}})
    with pytest.raises(
        ValueError, match=r"under one of state_dict, .*got epoch, weights; say by --key"
    ):
        read_tensors(file)
    with pytest.raises(ValueError, match="expected the key 'net', got epoch, weights"):
        read_tensors(file, key="net")
    with pytest.raises(ValueError, match="under 'weights' expected only named tensors"):
        read_tensors(file, key="weights")
    zipped(file, [1, 2])
    with pytest.raises(ValueError, match="expected a mapping of named tensors, got a list"):
        read_tensors(file)


def test_a_file_that_is_there_stays(tmp_path):
    write_safetensors(tmp_path / "a", {"x": np.zeros(2)}, {})
    with pytest.raises(ValueError, match=r"expected a new file, got .*a;"):
        write_safetensors(tmp_path / "a", {"x": np.ones(2)}, {})
    np.testing.assert_array_equal(read_tensors(tmp_path / "a")["x"], np.zeros(2))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
