"""Where in a checkpoint the weights are, and what may be beside them."""

import argparse
import collections
import datetime
import enum
import io
import pathlib
import sys
from collections import OrderedDict

import numpy as np
import pytest
from flax import serialization

from tests.helpers import torch_zip
from tests.helpers.torch_zip import Global, Tensor
from tlx.checkpoints.foreign import read_tensors

WEIGHTS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.ones(2, "f4")}
OTHER = {name: value + 1 for name, value in WEIGHTS.items()}


def state(arrays=None):
    return torch_zip.tensors(WEIGHTS if arrays is None else arrays)


def check(found, wanted=None):
    wanted = WEIGHTS if wanted is None else wanted
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize(
    "key", ["model", "state_dict", "net", "params", "model_state_dict", "weights", "state_dict_ema"]
)
def test_weights_that_are_alone(tmp_path, key):
    torch_zip.save(tmp_path / "a.pth", {key: state()})
    check(read_tensors(tmp_path / "a.pth"))
    torch_zip.save(tmp_path / "b.pth", {"checkpoint": {key: state(), "epoch": 2}, "args": None})
    check(read_tensors(tmp_path / "b.pth"))
    check(read_tensors(tmp_path / "b.pth", key=f"checkpoint.{key}"))


class Colour(enum.Enum):
    RED = 1


class Mine:
    def __init__(self):
        self.inner = [self]

    def __setstate__(self, state):
        raise AssertionError("executed")


BESIDE = {
    "namespace": argparse.Namespace(lr=0.1, path=pathlib.PurePosixPath("x")),
    "array": np.arange(3.0),
    "scalar": np.float64(0.5),
    "dtype": np.dtype("float32"),
    "path": pathlib.PurePosixPath("/data"),
    "set": {1, 2},
    "frozen set": frozenset((1, 2)),
    "default dict": collections.defaultdict(list, a=[1]),
    "counter": collections.Counter("aab"),
    "time": datetime.datetime(2024, 1, 2),
    "enum": Colour.RED,
    "object": Mine(),
    "class": Mine,
    "torch's dtype": Global("torch", "float32"),
    "float8": Tensor(np.zeros(2, np.uint8), "Float8_e4m3fnStorage"),
    "random state": Tensor(np.zeros(5, np.uint8)),
    "tuple keys": {(1, 2): 3, None: 4},
    "optimizer": {"state": {0: {"step": 1, "exp_avg": Tensor(np.zeros(2, "f4"))}}, "groups": [{}]},
    "optim_by_name": {"state": {"a.weight": {"a.b": Tensor(np.zeros(2, "f4"))}}},
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_is_beside_the_weights_stays_unread(tmp_path, name):
    content = {name: BESIDE[name], "model": state(), "epoch": 3}
    torch_zip.save(tmp_path / "a.pth", content)
    check(read_tensors(tmp_path / "a.pth"))


def test_modules_that_a_file_names_are_not_imported(tmp_path):
    torch_zip.save(tmp_path / "a.pth", {"x": Global("this", "s"), "model": state()})
    sys.modules.pop("this", None)
    check(read_tensors(tmp_path / "a.pth"))
    assert "this" not in sys.modules


@pytest.mark.parametrize(
    ("one", "two"), [("state_dict", "state_dict_ema"), ("model", "model_ema"), ("net", "teacher")]
)
def test_a_choice_is_told_and_made(tmp_path, one, two):
    torch_zip.save(tmp_path / "a.pth", {one: state(), two: state(OTHER), "epoch": 1})
    with pytest.raises(
        ValueError, match=f"weights in one place, got {one}, {two}; choose one by --key"
    ):
        read_tensors(tmp_path / "a.pth")
    check(read_tensors(tmp_path / "a.pth", key=one))
    check(read_tensors(tmp_path / "a.pth", key=two), OTHER)
    with pytest.raises(ValueError, match=f"expected the key 'ema', .*weights under {one}, {two}"):
        read_tensors(tmp_path / "a.pth", key="ema")


def test_the_same_weights_under_two_keys_are_no_choice(tmp_path):
    both = state()
    torch_zip.save(tmp_path / "a.pth", {"model": both, "state_dict": both})
    check(read_tensors(tmp_path / "a.pth"))


def test_among_the_weights_there_are_only_tensors(tmp_path):
    content = state() | {"a.packed": Global("torch", "qint8")}
    torch_zip.save(tmp_path / "a.pth", {"model": content})
    with pytest.raises(ValueError, match=r"only named tensors, got a.packed \(an object of to"):
        read_tensors(tmp_path / "a.pth")
    torch_zip.save(tmp_path / "a.pth", {"model": Global("torchvision", "ResNet")})
    with pytest.raises(ValueError, match=r"it wants torchvision.ResNet, .*save its state dict"):
        read_tensors(tmp_path / "a.pth")


@pytest.mark.parametrize("key", [None, "model"])
def test_modules_without_extra_state_have_none(tmp_path, key):
    content = state() | {"a._extra_state": None}
    torch_zip.save(tmp_path / "a.pth", {key: content, "epoch": 1} if key else content)
    check(read_tensors(tmp_path / "a.pth"))
    content["a._extra_state"] = Global("io", "BytesIO")
    torch_zip.save(tmp_path / "a.pth", {"model": content})
    with pytest.raises(ValueError, match=r"a._extra_state \(an object of io.BytesIO\)"):
        read_tensors(tmp_path / "a.pth")


def test_variables_of_flax_beside_an_optimiser(tmp_path):
    tree = {
        "params": {"a": {"kernel": np.ones(2, "f4")}},
        "batch_stats": {"b": {"mean": np.ones(1)}},
    }
    (tmp_path / "a").write_bytes(serialization.msgpack_serialize(tree))
    wanted = {"params/a/kernel": np.ones(2, "f4"), "batch_stats/b/mean": np.ones(1)}
    check(read_tensors(tmp_path / "a"), wanted)
    (tmp_path / "a").write_bytes(serialization.msgpack_serialize({"model": tree, "step": 3}))
    check(read_tensors(tmp_path / "a"), wanted)
    several = tree | {"ema_params": tree["params"]}
    (tmp_path / "b").write_bytes(serialization.msgpack_serialize(several))
    with pytest.raises(ValueError, match="weights in one place, got params, ema_params; choose"):
        read_tensors(tmp_path / "b")
    more = tree | {"step": 3, "opt_state": {"0": {"mu": tree["params"]}}}
    (tmp_path / "a").write_bytes(serialization.msgpack_serialize(more))
    check(read_tensors(tmp_path / "a"), wanted)


def test_scalars_and_empty_tensors(tmp_path):
    values = {"a.x": np.array(3.5, "f4"), "a.y": np.zeros((0, 3), "f4"), "a.z": np.array(7)}
    torch_zip.save(tmp_path / "a.pth", OrderedDict(torch_zip.tensors(values)))
    check(read_tensors(tmp_path / "a.pth"), values)


def test_npz_of_any_order_and_compression(tmp_path):
    values = {"a": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "b": np.zeros((2, 0)), "c": 3.0}
    for write in (np.savez, np.savez_compressed):
        stream = io.BytesIO()
        write(stream, **values)
        (tmp_path / "a.npz").write_bytes(stream.getvalue())
        check(read_tensors(tmp_path / "a.npz"), {n: np.asarray(v) for n, v in values.items()})
    np.savez(tmp_path / "o.npz", a=np.array([{}], object))
    with pytest.raises(ValueError, match=r"'a.npy': expected an array of numbers, got object"):
        read_tensors(tmp_path / "o.npz")


def test_files_without_tensors(tmp_path):
    np.savez(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"a.npz: expected only named tensors, got none"):
        read_tensors(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"neither")
    with pytest.raises(ValueError, match=r"a.npz: of no known format"):
        read_tensors(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a.npz: expected weights, got an empty file"):
        read_tensors(tmp_path / "a.npz")


@pytest.mark.parametrize("dtype", ["|V2", "<U1", "M8[s]", np.longdouble])
def test_arrays_of_npz_that_are_no_weights(dtype, tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros(2, dtype))
    with pytest.raises(ValueError, match=r"'a.npy': expected an array of numbers, got "):
        read_tensors(tmp_path / "a.npz")


def test_npz_of_the_other_byte_order(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.arange(3, dtype=">f4"))
    found = read_tensors(tmp_path / "a.npz")["a"]
    assert found.dtype == np.dtype("f4").newbyteorder("=")
    assert found.tolist() == [0, 1, 2]
