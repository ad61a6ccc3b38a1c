"""Streams from what other libraries yield, and from inputs of several arrays."""

import collections

import grain.python as grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import tiny_models
from tlx.core import evaluate, metrics, streams

N, SIZE = 10, 4
INPUTS, LABELS = tiny_models.make_inputs(N)


class Tensor:
    """What a stream uses of a tensor of torch."""

    def __init__(self, value):
        self.value, self.dtype = np.asarray(value), "torch.float32"

    def detach(self):
        return self

    def cpu(self):
        return self

    def numpy(self):
        return self.value


class Dataset:
    """A data set of torch, whose items are examples."""

    __module__ = "torch.utils.data.dataset"

    def __getitem__(self, i):
        return (INPUTS[i],)


class Columns:
    """What a stream uses of a data set of Hugging Face."""

    column_names = ("label", "x")

    def __iter__(self):
        return ({"x": x, "label": y} for x, y in zip(INPUTS, LABELS, strict=True))

    def iter(self, batch_size):
        for start in range(0, N, batch_size):
            here = slice(start, start + batch_size)
            yield {"x": INPUTS[here].tolist(), "label": LABELS[here].tolist()}


class Encoding(collections.UserDict):
    """A mapping that is no pytree, as tokenizers return."""


def pairs(kind=lambda x: x, container=tuple):
    starts = range(0, N, SIZE)
    return [container([kind(INPUTS[i : i + SIZE]), kind(LABELS[i : i + SIZE])]) for i in starts]


def grain_pairs():
    data = grain.MapDataset.source(list(zip(INPUTS, LABELS, strict=True)))
    return data.batch(SIZE, drop_remainder=False)


SOURCES = {
    "list": (pairs(), {}),
    "function": (lambda: iter(pairs()), {}),
    "generator function": (lambda: (pair for pair in pairs()), {}),
    "tensors in lists": (pairs(Tensor, list), {}),
    "jax arrays": (pairs(jnp.asarray), {}),
    "lists of numbers": (pairs(lambda x: x.tolist()), {}),
    "positions": ([(y, x) for x, y in pairs()], {"inputs": 1, "labels": 0}),
    "keys": ([{"x": x, "y": y} for x, y in pairs()], {"inputs": "x", "labels": "y"}),
    "functions": (
        [Encoding(x=Encoding(y=x), y=y) for x, y in pairs()],
        {"inputs": lambda b: b["x"]["y"], "labels": lambda b: b["y"]},
    ),
    "mapping": ([{"inputs": x, "labels": y} for x, y in pairs()], {}),
    "hugging face": (Columns(), {"inputs": "x", "labels": "label", "batch_size": SIZE}),
    "grain": (grain_pairs(), {}),
    "wider": (pairs(), {"batch_size": 7}),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_is_the_stream_of_its_arrays(source):
    given, options = SOURCES[source]
    stream = streams.from_batches(given, **options)
    size = options.get("batch_size", SIZE)
    for _ in range(2):
        batches = list(stream())
        assert {x.shape[0] for b in batches for x in jax.tree.leaves(b)} == {size}
        mask = np.concatenate([b["mask"] for b in batches])
        for name, expected in {"inputs": INPUTS, "labels": LABELS, "index": range(N)}.items():
            got = np.concatenate([np.asarray(b[name]) for b in batches])[mask]
            np.testing.assert_array_equal(got.astype(np.float32), np.float32(expected))
    assert stream.num_examples == N
    tiny = tiny_models.make("linen", 0)
    collected = metrics.collect(metrics.softmax_cross_entropy, N)
    ours, theirs = (
        evaluate(tiny.apply_fn, collected, tiny.params, s)
        for s in (stream, streams.from_arrays(INPUTS, LABELS, batch_size=SIZE))
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_several_keys_are_a_dict_and_a_mask_of_the_source_counts():
    first = {"ids": np.ones((3, 2), int), "types": np.zeros((3, 2), int), "label": np.arange(3)}
    batches = [first | {"mask": np.array([True, False, True])}, first | {"mask": np.ones(3, bool)}]
    stream = streams.from_batches(batches, inputs=("ids", "types"), labels="label")
    got = list(stream())
    assert list(got[0]["inputs"]) == ["ids", "types"]
    assert stream.num_examples == 5
    assert got[0]["index"].tolist() == [0, np.iinfo(np.int32).max, 1]
    assert got[1]["index"].tolist() == [2, 3, 4]
    mine = streams.from_batches(batches, inputs="ids", mask=lambda b: b["label"] > 0)
    assert mine.num_examples == 4


def test_one_array_a_batch_has_no_labels():
    stream = streams.from_batches([INPUTS[:4], INPUTS[4:6]])
    assert [sorted(b) for b in stream()] == [["index", "inputs", "mask"]] * 2


REFUSED = {
    "iterator": (lambda: iter(pairs()), {}, TypeError, "an? iterator|can be read only once"),
    "generator": (lambda: (p for p in pairs()), {}, TypeError, "can be read only once; pass what"),
    "splits": (lambda: {"train": pairs()}, {}, TypeError, r"a mapping with the keys \['train'\]"),
    "array": (lambda: INPUTS, {}, TypeError, "from_arrays"),
    "tensor": (lambda: Tensor(INPUTS), {}, TypeError, "from_arrays"),
    "examples": (Dataset, {}, TypeError, "the data set Dataset of torch.*DataLoader"),
    "number": (lambda: 3, {}, TypeError, "expected a source of batches .* got int"),
    "no batch size": (Columns, {"inputs": "x"}, ValueError, "batch_size= with a data set of Hug"),
    "zero": (pairs, {"batch_size": 0}, ValueError, "batch_size of at least 1, got 0"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_source_is_refused_at_the_call(kind):
    source, options, error, message = REFUSED[kind]
    with pytest.raises(error, match=message):
        streams.from_batches(source(), **options)


WRONG = {
    "key": ([{"x": INPUTS}], {}, ValueError, r"inputs under 'inputs', got the keys \['x'\]"),
    "labels": ([{"inputs": INPUTS}], {"labels": "y"}, ValueError, "labels under 'y'"),
    "position": (pairs(), {"inputs": 2}, ValueError, "inputs at 2, got one of 2 parts"),
    "key of a pair": (pairs(), {"inputs": "x"}, ValueError, "inputs at 'x', got one of 2 parts"),
    "three parts": ([(INPUTS,) * 3], {}, ValueError, "a choice of inputs= and labels= among the 3"),
    "example": ([(INPUTS[0], 1)], {}, ValueError, "labels .*, got a scalar; .* batched first"),
    "scalar": ([(1.0, 1)], {}, ValueError, "got scalars; .* batched first"),
    "larger": ([INPUTS[:2], INPUTS], {}, ValueError, "at most 2 rows, got 10 in batch 1"),
    "ragged": ([([[1, 2], [3]], [0, 1])], {}, ValueError, "inputs as arrays .* different lengths"),
    "words": ([(INPUTS[:2], ["a", "b"])], {}, TypeError, "expected labels as arrays, got str"),
    "objects": ([([object()], [0])], {}, TypeError, "got object; convert it by a function"),
    "mask": ([{"inputs": INPUTS, "mask": INPUTS}], {}, ValueError, "mask as bool .*; choose ano"),
    "rows": ([(INPUTS, LABELS[:3])], {}, ValueError, r"10 rows .* got \['labels 3'\]"),
    "part of an array": ([INPUTS], {"inputs": "x"}, ValueError, "a batch with parts"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_batch_is_named(kind):
    source, options, error, message = WRONG[kind]
    stream = streams.from_batches(source, **options)
    with pytest.raises(error, match=message):
        list(stream())


def test_a_source_that_shuffles_is_told_so():
    order = np.random.default_rng(0)
    stream = streams.from_batches(lambda: [(INPUTS[i], LABELS[i]) for i in [order.permutation(N)]])
    list(stream())
    with pytest.raises(ValueError, match="the same batch, got another one; turn shuffling"):
        list(stream())


class Pair(collections.namedtuple("Pair", "ids weights")):
    pass


@pytest.mark.parametrize("container", [dict, Pair])
def test_arrays_of_several_parts(container):
    parts = {"ids": np.arange(N * 3).reshape(N, 3), "weights": np.arange(float(N))}
    inputs = container(**parts)
    stream = streams.from_arrays(inputs, LABELS, batch_size=SIZE)
    assert (stream.num_examples, stream.num_batches) == (N, 3)
    batches = list(stream())
    assert all(isinstance(b["inputs"], container) for b in batches)
    for i, name in enumerate(parts):
        got = np.concatenate([jax.tree.leaves(b["inputs"])[i] for b in batches])
        np.testing.assert_array_equal(got[:N], parts[name])
        assert not got[N:].any()
    assert [b["mask"].sum() for b in batches] == [4, 4, 2]


def test_arrays_of_several_parts_must_be_of_one_length():
    with pytest.raises(ValueError, match=r"of one length, got {'inputs/a': 3, 'inputs/b': 2}"):
        streams.from_arrays({"a": INPUTS[:3], "b": INPUTS[:2]}, batch_size=2)
    with pytest.raises(ValueError, match="one label for each input, got 3 inputs and 2 labels"):
        streams.from_arrays(INPUTS[:3], LABELS[:2], batch_size=2)
    with pytest.raises(ValueError, match="at least one array"):
        streams.from_arrays({}, batch_size=2)


def test_a_part_without_rows_is_for_all_of_them():
    batch = {"inputs": {"x": INPUTS[:3], "scale": np.float32(2)}, "labels": LABELS[:3]}
    padded = streams.pad_batch(batch, 5)
    assert padded["inputs"]["scale"].shape == ()
    assert padded["inputs"]["x"].shape[0] == len(padded["labels"]) == 5


def test_images_of_pillow_are_arrays():
    images = pytest.importorskip("PIL.Image")
    pixels = np.arange(5 * 4 * 4 * 3, dtype=np.uint8).reshape(5, 4, 4, 3)
    batches = [
        {"image": [images.fromarray(x) for x in pixels[i : i + 2]], "label": [0, 1][: 5 - i]}
        for i in range(0, 5, 2)
    ]
    stream = streams.from_batches(batches, inputs="image", labels="label")
    seen = [np.asarray(batch["inputs"])[np.asarray(batch["mask"])] for batch in stream()]
    np.testing.assert_array_equal(np.concatenate(seen), pixels)
