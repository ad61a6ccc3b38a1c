"""Weights in several files with an index."""

import json

import numpy as np
import pytest

from tests.helpers import torch_zip
from tlx.checkpoints.foreign import digest, read_tensors, write_safetensors

FIRST = {"a.weight": np.arange(4, dtype=np.float32), "a.bias": np.ones(2, np.float32)}
SECOND = {"b.weight": np.arange(3, dtype=np.float32)}
PLACES = dict.fromkeys(FIRST, "one") | dict.fromkeys(SECOND, "two")


def write_index(folder, places, name="model.safetensors.index.json", **more):
    content = {"metadata": {"total_size": 36}, "weight_map": places} | more
    (folder / name).write_text(json.dumps(content, indent=2))
    return folder / name


@pytest.fixture
def folder(tmp_path):
    write_safetensors(tmp_path / "one", FIRST, {})
    write_safetensors(tmp_path / "two", SECOND, {})
    return tmp_path


def test_every_tensor_from_its_shard(folder):
    found = read_tensors(write_index(folder, PLACES))
    assert set(found) == set(PLACES)
    for name, value in (FIRST | SECOND).items():
        np.testing.assert_array_equal(found[name], value)


def test_shards_of_torch(tmp_path):
    torch_zip.save(tmp_path / "one", torch_zip.tensors(FIRST))
    torch_zip.save(tmp_path / "two", torch_zip.tensors(SECOND))
    found = read_tensors(write_index(tmp_path, PLACES, "pytorch_model.bin.index.json"))
    np.testing.assert_array_equal(found["b.weight"], SECOND["b.weight"])
    assert set(found) == set(PLACES)


def test_the_digest_is_of_all_shards(folder):
    index = write_index(folder, PLACES)
    before = digest(index)
    (folder / "two").unlink()
    write_safetensors(folder / "two", {"b.weight": SECOND["b.weight"] + 1}, {})
    assert digest(index) != before


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (PLACES | {"c": "three"}, "expected the shards beside the index, but there is no three"),
        (PLACES | {"c": "two"}, "expected c in the shard two"),
        (PLACES | {"a.bias": "two"}, "expected a.bias in the shard two"),
        (PLACES | {"c": "../two"}, "beside the index for 'c', got '../two'"),
        (PLACES | {"c": "/etc/hostname"}, "beside the index for 'c', got '/etc/hostname'"),
        (PLACES | {"c": 3}, "beside the index for 'c', got '3'"),
        (PLACES | {"c": ".."}, "beside the index for 'c', got '..'"),
        ({}, 'JSON without a "weight_map"'),
        ([1], 'JSON without a "weight_map"'),
    ],
)
def test_an_index_that_does_not_fit(folder, places, message):
    with pytest.raises(ValueError, match=message):
        read_tensors(write_index(folder, places))


def test_shards_that_are_links_as_in_the_caches_of_hubs(folder):
    (folder / "inner").mkdir()
    (folder / "inner" / "one").symlink_to(folder / "one")
    found = read_tensors(write_index(folder / "inner", dict.fromkeys(FIRST, "one")))
    assert set(found) == set(FIRST)


def test_of_two_shards_that_have_a_tensor_the_named_one_is_read(folder):
    (folder / "two").unlink()
    other = {name: value + 1 for name, value in FIRST.items()}
    write_safetensors(folder / "two", {**SECOND, **other}, {})
    found = read_tensors(write_index(folder, PLACES))
    for name, value in (FIRST | SECOND).items():
        np.testing.assert_array_equal(found[name], value)


def test_json_that_is_no_index(tmp_path):
    file = tmp_path / "a.json"
    file.write_text('{"a": ')
    with pytest.raises(ValueError, match="it begins as JSON, but is none"):
        read_tensors(file)
    file.write_text('{"a":' * 100_000)
    with pytest.raises(ValueError, match="it begins as JSON, but is none"):
        read_tensors(file)
