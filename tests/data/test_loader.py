"""Loading, evaluation streams and training batches: pure functions of (spec, seed, step)."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlx.data import image_ops
from tlx.data.decode import fit
from tlx.data.examples import Arrays, Lazy, data_key, load, load_arrays, num_examples, subset
from tlx.data.labelled import ArraySource
from tlx.data.loader import eval_stream, train_batches
from tlx.data.order import Order, epoch_order
from tlx.data.sources import open_source, register_source, registry
from tlx.data.spec import DataSpec
from tlx.data.transform import _as_inputs, apply, transform

SPEC = DataSpec(
    name="loader_tiny",
    image_size=8,
    channels=1,
    mean=(0.4,),
    std=(0.3,),
    batch_size=6,
    eval_batch_size=4,
)
SHUFFLED = dataclasses.replace(SPEC, shuffle="block:4")
AUGMENTED = dataclasses.replace(SHUFFLED, augment=("crop", "flip"))


class TinySource:
    """Random access, decoded by item, images of different sizes."""

    name, num_classes = "tiny", 3

    def __init__(self, split):
        self.fingerprint = f"tiny-{split}"
        self._count = {"train": 10, "test": 7}[split]
        self._split = split

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        rng = np.random.default_rng([index, len(self._split)])
        shape = (8 + index % 2, 8 + index % 3, 1 + 2 * (index % 2))
        return {"image": rng.integers(0, 256, shape).astype(np.uint8), "label": index % 3}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(registry, "_READERS", dict(registry._READERS))
    register_source("loader_tiny", TinySource)


def take(iterator, count):
    return list(itertools.islice(iterator, count))


def assert_same(batch, other):
    assert batch.keys() == other.keys()
    for name in batch:
        np.testing.assert_array_equal(batch[name], other[name], err_msg=name)
        assert batch[name].dtype == other[name].dtype


def test_load_arrays_fits_every_image():
    data = load_arrays(SPEC, "train")
    assert data.images.shape == (10, 8, 8, 1)
    assert (data.images.dtype, data.labels.dtype) == (np.uint8, np.int32)
    for index, image in enumerate(data.images):
        np.testing.assert_array_equal(image, fit(TinySource("train")[index]["image"], 8, 1))
    np.testing.assert_array_equal(data.labels, np.arange(10) % 3)
    assert load_arrays(SPEC, "train") is data  # decoded once
    with pytest.raises(ValueError, match="read-only"):
        data.images[0] = 0


def test_load_arrays_of_a_source_in_memory():
    spec = DataSpec(name="digits", image_size=32, channels=3, mean=(0.3,) * 3, std=(0.4,) * 3)
    data, source = load_arrays(spec, "test"), open_source("digits", "test")
    assert data.images.shape == (797, 32, 32, 3)
    np.testing.assert_array_equal(data.images[5], fit(source[5]["image"], 32, 3))
    np.testing.assert_array_equal(data.labels, source.labels)


def test_train_size_takes_the_start_of_a_fixed_permutation():
    few = load_arrays(dataclasses.replace(SPEC, train_size=4), "train")
    more = load_arrays(dataclasses.replace(SPEC, train_size=9), "train")
    whole = load_arrays(SPEC, "train")
    np.testing.assert_array_equal(more.images[:4], few.images)
    order = np.random.RandomState(0).permutation(10)
    np.testing.assert_array_equal(few.images, whole.images[order[:4]])
    assert len(load_arrays(dataclasses.replace(SPEC, train_size=4), "test").labels) == 7
    with pytest.raises(ValueError, match="at most 10 examples together, got 11 and 0"):
        load_arrays(dataclasses.replace(SPEC, train_size=11), "train")
    np.testing.assert_array_equal(subset(3, None)[0], [0, 1, 2])


def test_what_is_held_out_is_the_end_of_that_permutation_and_not_trained_on():
    spec = dataclasses.replace(SPEC, valid_size=3)
    order = np.random.RandomState(0).permutation(10)
    whole = load_arrays(SPEC, "train").images
    valid = load_arrays(spec, "valid")
    np.testing.assert_array_equal(valid.images, whole[order[7:]])
    np.testing.assert_array_equal(load_arrays(spec, "train").images, whole[np.sort(order[:7])])
    few = dataclasses.replace(spec, train_size=7)
    np.testing.assert_array_equal(load_arrays(few, "train").images, whole[order[:7]])
    assert len(load_arrays(spec, "test").labels) == 7
    keys = [data_key(spec, split) for split in ("train", "valid", "test")]
    assert keys[1] == {**keys[0], "count": 3, "part": "valid"}
    assert keys[2] == data_key(SPEC, "test")
    assert keys[0] != data_key(dataclasses.replace(SPEC, train_size=7), "train")
    with pytest.raises(ValueError, match="at most 10 examples together, got 8 and 3"):
        load_arrays(dataclasses.replace(spec, train_size=8), "train")
    with pytest.raises(ValueError, match="examples together, got None and 10"):
        load_arrays(dataclasses.replace(SPEC, valid_size=10), "train")


def test_load_decodes_by_item_what_does_not_fit():
    assert isinstance(load(SPEC, "train"), Arrays)
    lazy = load(SPEC, "train", max_bytes=100)
    assert isinstance(lazy, Lazy)
    assert num_examples(lazy) == 10
    with pytest.raises(ValueError, match=r"expected a split of .*, got 'dev'"):
        load(SPEC, "dev")


def test_several_labels_an_image(monkeypatch):
    labels = np.array([[0, 1], [1, 1], [0, 0]])
    images = np.zeros((3, 8, 8, 1), np.uint8)
    register_source("many", lambda split: ArraySource("many", split, images, labels, 2))
    spec = dataclasses.replace(SPEC, name="many")
    assert load_arrays(spec, "test").labels.dtype == np.float32
    batch = next(train_batches(load_arrays(spec, "train"), spec, seed=0))
    np.testing.assert_array_equal(batch["labels"], labels[batch["index"]])


@pytest.mark.parametrize("max_bytes", [0, 2**30])
def test_a_class_that_is_not_whole(max_bytes):
    class Halves(TinySource):
        fingerprint = "halves"  # of its own, or what is held of the other serves

        def __init__(self, split):
            self._count, self._split = 7, split

        def __getitem__(self, index):
            return super().__getitem__(index) | {"label": np.float32(index + 0.5)}

    register_source("halves", Halves)
    spec = dataclasses.replace(SPEC, name="halves")
    message = r"tiny, example \d+: expected a whole number as label, got .*\.5"
    with pytest.raises(ValueError, match=message):
        list(eval_stream(spec, "test", data=load(spec, "test", max_bytes=max_bytes))())


def test_transform_normalises_then_shuffles():
    images = load_arrays(SPEC, "train").images
    out = transform(SHUFFLED, None, images)
    plain = image_ops.normalise(images, SPEC.mean, SPEC.std)
    order = image_ops.block_permutation(8, 4, SHUFFLED.shuffle_seed)
    np.testing.assert_array_equal(out, image_ops.block_shuffle(plain, 4, order))
    np.testing.assert_array_equal(transform(AUGMENTED, None, images), out)
    np.testing.assert_array_equal(apply(SHUFFLED, images), out)


@pytest.mark.parametrize("shuffle", ["none", "block:2", "channel_block:4", "pixel"])
def test_augmentation_comes_before_normalisation_and_shuffle(shuffle):
    spec = dataclasses.replace(AUGMENTED, shuffle=shuffle)
    images = load_arrays(SPEC, "train").images
    out = transform(spec, jax.random.key(3), images)
    bare = dataclasses.replace(spec, shuffle="none", mean=(0.0,), std=(1.0,))
    augmented = np.rint(255 * np.asarray(transform(bare, jax.random.key(3), images)))
    assert not np.array_equal(augmented, images)
    again = transform(spec, None, augmented.astype(np.uint8))
    np.testing.assert_allclose(out, again, atol=1e-6)


def test_transform_says_what_came():
    with pytest.raises(
        ValueError, match=r"expected uint8 images \[batch, 8, 8, 1\], got uint8 \(2, 9"
    ):
        transform(SPEC, None, np.zeros((2, 9, 9, 1), np.uint8))


def test_apply_does_not_depend_on_the_number_of_images():
    images = np.random.default_rng(0).integers(0, 256, (1100, 8, 8, 1)).astype(np.uint8)
    whole = apply(SHUFFLED, images)
    np.testing.assert_array_equal(apply(SHUFFLED, images[:3]), whole[:3])
    np.testing.assert_array_equal(apply(SHUFFLED, images[600:]), whole[600:])
    assert apply(SHUFFLED, images[:0]).shape == (0, 8, 8, 1)


@pytest.mark.parametrize("max_bytes", [2**30, 0], ids=["memory", "by item"])
def test_eval_stream(max_bytes):
    data = load(SHUFFLED, "test", max_bytes=max_bytes)
    stream = eval_stream(SHUFFLED, "test", data=data)
    batches = list(stream())
    expected = list(eval_stream(SHUFFLED, "test")())
    assert len(batches) == 2
    for batch, other in zip(batches, expected, strict=True):
        assert_same(batch, other)
    for batch, other in zip(batches, stream(), strict=True):  # replayable
        assert_same(batch, other)
    assert batches[1]["mask"].tolist() == [True, True, True, False]
    assert batches[0]["inputs"].dtype == np.float32
    np.testing.assert_array_equal(batches[0]["index"], [0, 1, 2, 3])
    arrays = load_arrays(SPEC, "test")
    np.testing.assert_array_equal(batches[0]["inputs"], apply(SHUFFLED, arrays.images[:4]))
    np.testing.assert_array_equal(batches[0]["labels"], arrays.labels[:4])


def test_eval_stream_knows_its_number_of_examples():
    assert eval_stream(SPEC, "test").num_examples == 7
    assert eval_stream(dataclasses.replace(SPEC, train_size=5), "train").num_examples == 5


@given(
    st.integers(1, 40),
    st.integers(1, 12),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
    st.integers(0, 100),
)
def test_order_is_interleaved_by_processes_and_whole_in_every_epoch(total, rows, count, seed, step):
    batch = rows * count
    whole = Order(total, batch, seed=seed)
    parts = [
        Order(total, batch, seed=seed, process_index=p, process_count=count) for p in range(count)
    ]
    interleaved = np.stack([part[step] for part in parts], axis=1).reshape(-1)
    np.testing.assert_array_equal(interleaved, whole[step])
    steps = -(-3 * total // batch)
    sequence = np.concatenate([whole[t] for t in range(steps)])
    for epoch in range(3):
        visited = sequence[epoch * total : (epoch + 1) * total]
        assert sorted(visited) == list(range(total))


def test_order_is_pinned():
    """Runs that go on under other versions of numpy must see the same data."""
    np.testing.assert_array_equal(Order(10, 6, seed=3)[0], [9, 1, 0, 8, 2, 4])
    np.testing.assert_array_equal(Order(10, 6, seed=3)[10**6], [8, 5, 2, 3, 7, 6])


def test_order_differs_by_seed_and_epoch():
    orders = [tuple(epoch_order(50, seed, epoch)) for seed in range(4) for epoch in range(4)]
    assert len(set(orders)) == 16


@pytest.mark.parametrize(
    "spec", [SPEC, SHUFFLED, AUGMENTED], ids=["plain", "shuffled", "augmented"]
)
@pytest.mark.parametrize("max_bytes", [2**30, 0], ids=["memory", "by item"])
def test_training_goes_on_where_it_stopped(spec, max_bytes):
    data = load(spec, "train", max_bytes=max_bytes)
    batches = take(train_batches(data, spec, seed=7), 6)
    for start in (1, 2, 5):  # inside an epoch, and past its end
        again = take(train_batches(data, spec, seed=7, start_step=start), 6 - start)
        for batch, other in zip(batches[start:], again, strict=True):
            assert_same(batch, other)
    assert not np.array_equal(batches[0]["inputs"], batches[1]["inputs"])


@pytest.mark.parametrize("spec", [SPEC, AUGMENTED], ids=["plain", "augmented"])
def test_decoding_by_item_changes_nothing(spec):
    memory = take(train_batches(load(spec, "train"), spec, seed=1), 4)
    items = take(train_batches(load(spec, "train", max_bytes=0), spec, seed=1), 4)
    for batch, other in zip(memory, items, strict=True):
        assert batch.keys() == other.keys()
        for name in batch:
            np.testing.assert_allclose(batch[name], other[name], atol=1e-6)


@pytest.mark.parametrize("spec", [SPEC, AUGMENTED], ids=["plain", "augmented"])
@pytest.mark.parametrize("max_bytes", [2**30, 0], ids=["memory", "by item"])
def test_processes_interleave_to_the_batches_of_one(spec, max_bytes):
    data = load(spec, "train", max_bytes=max_bytes)
    whole = take(train_batches(data, spec, seed=2, start_step=3), 3)
    parts = [
        take(
            train_batches(data, spec, seed=2, start_step=3, process_index=p, process_count=2),
            3,
        )
        for p in range(2)
    ]
    for step, batch in enumerate(whole):
        for p in range(2):
            for name in batch:
                np.testing.assert_array_equal(parts[p][step][name], batch[name][p::2])


def test_training_batches_hold_what_they_say():
    data = load_arrays(SHUFFLED, "train")
    for batch in take(train_batches(data, SHUFFLED, seed=0), 5):
        assert {name: value.dtype for name, value in batch.items()} == {
            "inputs": np.float32,
            "labels": np.int32,
            "mask": np.bool_,
            "index": np.int32,
        }
        assert batch["mask"].all()
        assert batch["inputs"].shape == (6, 8, 8, 1)
        np.testing.assert_array_equal(batch["labels"], data.labels[batch["index"]])
        images = data.images[batch["index"]]
        np.testing.assert_array_equal(batch["inputs"], apply(SHUFFLED, images))


def test_augmentation_differs_by_step_and_seed():
    data = load_arrays(AUGMENTED, "train")
    one = dataclasses.replace(AUGMENTED, train_size=1, batch_size=8)
    first = Arrays(data.images[:1], data.labels[:1])
    a, b = take(train_batches(first, one, seed=0), 2)
    other = next(train_batches(first, one, seed=1))
    assert not np.array_equal(a["inputs"], b["inputs"])
    assert not np.array_equal(a["inputs"], other["inputs"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, r"^expected a seed of 0 to 2\*\*32 - 1, got -1$"),
        ({"seed": 0, "start_step": -2}, "^expected start_step of at least 0, got -2$"),
        (
            {"seed": 0, "process_index": 2, "process_count": 2},
            "^expected process_index of 0 to process_count - 1, got 2 of 2$",
        ),
        (
            {"seed": 0, "process_count": 4},
            "^expected batch_size as a positive multiple of the 4 processes .*, got 6$",
        ),
    ],
)
def test_training_batches_refuse_at_call(options, message):
    data = load_arrays(SPEC, "train")
    with pytest.raises(ValueError, match=message):
        train_batches(data, SPEC, **options)


def test_no_examples_is_an_error():
    with pytest.raises(ValueError, match=r"^expected at least one example to train on, got none$"):
        train_batches(Arrays(np.zeros((0, 8, 8, 1), np.uint8), np.zeros(0, np.int32)), SPEC, seed=0)


def test_data_key_has_what_evaluation_depends_on_and_no_more():
    key = data_key(SHUFFLED, "train")
    assert key == {
        "source": "tiny",
        "split": "train",
        "fingerprint": "tiny-train",
        "count": 10,
        "image_size": 8,
        "channels": 1,
        "mean": [0.4],
        "std": [0.3],
        "shuffle": "block:4",
        "shuffle_seed": 1234,
    }
    same = {"batch_size": 3, "eval_batch_size": 9, "augment": ("flip",)}
    assert data_key(dataclasses.replace(SHUFFLED, **same), "train") == key
    for values in ({"train_size": 3}, {"shuffle_seed": 1}, {"shuffle": "pixel"}, {"mean": (0.0,)}):
        assert data_key(dataclasses.replace(SHUFFLED, **values), "train") != key
    assert data_key(dataclasses.replace(SHUFFLED, train_size=3), "test") == data_key(
        SHUFFLED, "test"
    )


def test_steps_do_not_retrace():
    data = load_arrays(AUGMENTED, "train")
    batches = train_batches(data, AUGMENTED, seed=11)
    next(batches)
    traced = _as_inputs._cache_size()
    take(batches, 5)
    take(train_batches(data, AUGMENTED, seed=12, start_step=40), 3)
    assert _as_inputs._cache_size() == traced
