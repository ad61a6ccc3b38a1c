"""Rows that do not count change nothing, to the bit, whatever they hold and wherever they are."""

import dataclasses
import functools
import zlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.train import tiny
from tlx.core import auc, evaluate, metrics, streams, tree
from tlx.data import image_ops, mixing
from tlx.data.spec import DataSpec
from tlx.data.transform import transform
from tlx.train import losses, optim
from tlx.train.spec import OptimSpec
from tlx.train.state import make_state
from tlx.train.step import StepConfig, StepInputs, _prepared, step

ROWS, SIZE, CLASSES = 8, 8, 4
STATIC = optim.static_of(OptimSpec(rate=0.1))
STRANGE = np.array([np.nan, np.inf, -np.inf, 1e30, -3.0, 0.0], np.float32)


class Cut(nn.Module):
    """Normalises rows that examples were cut into, and by the norm of the input."""

    num_classes: int

    @nn.compact
    def __call__(self, inputs: Any, train: bool = False) -> Any:
        x = inputs.reshape(len(inputs), -1)
        x = x / jnp.sqrt(jnp.sum(x * x, 1, keepdims=True))  # the derivative at 0 is NaN
        x = nn.Dense(8, name="stem")(x).reshape(2 * len(x), 4)
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        return nn.Dense(self.num_classes, name="head")(x.reshape(len(inputs), -1))


MODELS = {
    "norm": tiny.Tiny(num_classes=CLASSES, normalise=True),
    "cut": Cut(num_classes=CLASSES),
}


@functools.cache
def start(model: str) -> Any:
    init = jax.jit(MODELS[model].init)
    variables = init(jax.random.key(0), jnp.ones((2, SIZE, SIZE, 1)))
    return make_state(variables, STATIC, 0)


@functools.cache
def compiled(
    model: str, mixup: float, processes: tuple[int, ...], loss: str, accumulate: int
) -> Any:
    config = StepConfig(
        MODELS[model], loss, mixup, STATIC, row_processes=processes, accumulate=accumulate
    )
    return jax.jit(functools.partial(step, config))


def run(
    batch: dict[str, Any], model: str, *, mixup: float = 0.7, processes: tuple[int, ...] = (),
    loss: str = "softmax", accumulate: int = 1,
) -> dict[str, np.ndarray]:  # fmt: skip
    """All that a step leaves, by name; rows are given in the order of one process.

    They come to the step as the devices have them, whose processes are named: process p of P reads
    rows p, p + P, … and puts them on its devices one after another.
    """
    order, num = np.arange(len(batch["mask"])), max(processes, default=0) + 1
    if processes:
        each = len(order) // len(processes)
        read = {p: iter(order[p::num]) for p in range(num)}
        order = np.array([next(read[p]) for p in processes for _ in range(each)])
    given = {name: np.asarray(x)[order] for name, x in batch.items()}
    numbers = StepInputs(np.float32(0.1), optim.hyper_of(OptimSpec(rate=0.1)))
    fn = compiled(model, mixup, processes, loss, accumulate)
    after, found = fn(start(model), given, numbers)
    kept = {"params": after.params, "collections": after.collections, "opt": after.opt_state}
    return {n: np.asarray(x) for n, x in {**tree.named_leaves(kept), **found}.items()}


def a_batch(seed: int, mask: np.ndarray, loss: str = "softmax") -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((len(mask), SIZE, SIZE, 1)).astype(np.float32)
    labels: Any = rng.integers(0, CLASSES, len(mask)).astype(np.int32)
    if loss == "multilabel":
        labels = rng.integers(0, 2, (len(mask), CLASSES)).astype(np.float32)
    return {"inputs": inputs, "labels": labels, "mask": mask}


def spoilt(batch: dict[str, Any], seed: int) -> dict[str, Any]:
    """The batch with other contents of the rows that do not count, NaN and inf among them."""
    rng, hidden = np.random.default_rng(seed), ~batch["mask"]
    inputs, labels = batch["inputs"].copy(), batch["labels"].copy()
    inputs[hidden] = rng.choice(STRANGE, inputs[hidden].shape)
    if labels.ndim == 1:
        labels[hidden] = rng.choice([-1, 0, CLASSES, 2**31 - 1], labels[hidden].shape)
    else:
        labels[hidden] = rng.choice(STRANGE, labels[hidden].shape)
    return {**batch, "inputs": inputs, "labels": labels}


def assert_same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name], err_msg=name)
        assert np.isfinite(value).all(), name


FEW = settings(max_examples=5)
MASKS = st.lists(st.booleans(), min_size=ROWS, max_size=ROWS).map(lambda x: np.array(x, bool))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("processes", "mixup"), [((), 0.0), ((), 0.7), ((0, 1), 0.7)])
@FEW
@given(mask=MASKS, seed=st.integers(0, 99))
def test_content(
    model: str, mixup: float, processes: tuple[int, ...], mask: np.ndarray, seed: int
) -> None:
    batch = a_batch(seed, mask)
    options: Any = {"mixup": mixup, "processes": processes}
    assert_same(run(batch, model, **options), run(spoilt(batch, seed), model, **options))


@given(mask=MASKS, seed=st.integers(0, 99))
def test_content_with_several_labels(mask: np.ndarray, seed: int) -> None:
    batch = a_batch(seed, mask, "multilabel")
    found = [run(b, "norm", loss="multilabel") for b in (batch, spoilt(batch, seed))]
    assert_same(*found)


@pytest.mark.parametrize("processes", [(0, 1), (1, 0, 1, 0)])
@pytest.mark.parametrize(("mixup", "accumulate"), [(0.7, 1), (0.0, 2)])
@pytest.mark.parametrize("model", MODELS)
@FEW
@given(mask=MASKS, seed=st.integers(0, 99))
def test_number_and_order_of_processes(
    model: str,
    mixup: float,
    accumulate: int,
    processes: tuple[int, ...],
    mask: np.ndarray,
    seed: int,
) -> None:
    batch = spoilt(a_batch(seed, mask), seed)
    options: Any = {"mixup": mixup, "accumulate": accumulate}
    one, two = (run(batch, model, processes=p, **options) for p in ((), processes))
    for name, value in one.items():
        np.testing.assert_allclose(value, two[name], rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("mixup", [0.7])
@pytest.mark.parametrize("model", MODELS)
@FEW
@given(places=st.sets(st.integers(0, ROWS - 1), min_size=5, max_size=5), seed=st.integers(0, 99))
def test_padding_is_as_if_it_were_not_there(
    model: str, mixup: float, places: set[int], seed: int
) -> None:
    mask = np.isin(np.arange(ROWS), list(places))
    batch = spoilt(a_batch(seed, mask), seed)
    alone = {name: x[mask] for name, x in batch.items()}
    padded, bare = (run(b, model, mixup=mixup) for b in (batch, alone))
    for name, value in bare.items():
        np.testing.assert_allclose(padded[name], value, rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("model", MODELS)
def test_without_any_row_the_gradient_is_zero(model: str) -> None:
    batch = spoilt(a_batch(0, np.zeros(ROWS, bool)), 0)
    found, before = run(batch, model), start(model)
    assert (found["loss"], found["count"]) == (0, 0)
    for name, value in tree.named_leaves({"collections": before.collections}).items():
        np.testing.assert_array_equal(found[name], value)
    for name, value in tree.named_leaves({"params": before.params}).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4)  # but for weight decay


def test_statistics_are_those_of_the_rows_that_count() -> None:
    mask = np.array([1, 0, 1, 1, 0, 1, 1, 0], bool)
    batch = spoilt(a_batch(1, mask), 2)
    found = run(batch, "cut", mixup=0.0)
    params = jax.device_get(start("cut").params)
    x = batch["inputs"][mask].reshape(mask.sum(), -1).astype(np.float64)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    x = (x @ params["stem"]["kernel"] + params["stem"]["bias"]).reshape(-1, 4)
    expected = 0.99 * 1 + 0.01 * x.var(0)
    np.testing.assert_allclose(found["collections/batch_stats/norm/mean"], 0.01 * x.mean(0), 1e-4)
    np.testing.assert_allclose(found["collections/batch_stats/norm/var"], expected, rtol=1e-5)


def test_a_normalisation_whose_rows_are_unknown_is_refused() -> None:
    class Last(nn.Module):
        num_classes: int = 2

        @nn.compact
        def __call__(self, inputs: Any, train: bool = False) -> Any:
            x = nn.Dense(2, name="head")(inputs.reshape(len(inputs), -1))
            return nn.BatchNorm(use_running_average=not train, axis=0, name="norm")(x.T[:1]).T

    inputs = jnp.ones((4, 2))
    state = make_state(jax.jit(Last().init)(jax.random.key(0), inputs), STATIC, 0)
    batch = {"inputs": inputs, "labels": jnp.zeros(4, jnp.int32), "mask": jnp.ones(4, bool)}
    numbers = StepInputs(np.float32(0.1), optim.hyper_of(OptimSpec(rate=0.1)))
    with pytest.raises(ValueError, match="norm: expected a multiple of the batch of 4 rows on"):
        jax.eval_shape(
            functools.partial(step, StepConfig(Last(), "softmax", 0.0, STATIC)),
            state, batch, numbers,
        )  # fmt: skip


@given(mask=MASKS, seed=st.integers(0, 999))
def test_partners_are_a_permutation_of_the_examples(mask: np.ndarray, seed: int) -> None:
    key = jax.random.key(seed)
    found, rows = np.asarray(mixing.partners(key, jnp.asarray(mask))), np.flatnonzero(mask)
    expected = np.arange(ROWS)
    expected[rows] = rows[np.asarray(jax.random.permutation(key, len(rows)))]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [1, 2, 1700])  # above 1625 jax sorts twice
def test_partners_of_full_batches_are_those_of_jax(size: int) -> None:
    key = jax.random.key(size)
    found = mixing.partners(key, jnp.ones(size, bool))
    np.testing.assert_array_equal(found, jax.random.permutation(key, size))


def test_a_good_row_is_not_mixed_with_a_masked_one() -> None:
    """Zeros and class 0 in a masked row once changed the loss, 2.277 to 3.561."""
    mask = np.array([1, 1, 1, 0], bool)
    images, labels = np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32)
    for seed in range(20):
        mixed, _ = image_ops.mixup(jax.random.key(seed), images, labels, 0.7, mask)
        np.testing.assert_array_equal(np.asarray(mixed)[:, 3], [0, 0, 0, 1])


AUGMENTS: dict[str, tuple[str, ...]] = {
    "none": (), "flip": ("flip",), "crop": ("crop:2",), "both": ("crop:2", "flip")
}  # fmt: skip


@pytest.mark.parametrize("shuffle", ["none", "pixel"])
@pytest.mark.parametrize("augment", AUGMENTS)
@FEW
@given(mask=MASKS, seed=st.integers(0, 99))
def test_augmentations(augment: str, shuffle: str, mask: np.ndarray, seed: int) -> None:
    spec = dataclasses.replace(
        tiny.DATA, fit=("float", f"pad:{SIZE}"), augment=AUGMENTS[augment], shuffle=shuffle
    )
    batch = a_batch(seed, mask)
    key = jax.random.key(seed)
    a, b = (np.asarray(transform(spec, key, x["inputs"])) for x in (batch, spoilt(batch, seed)))
    np.testing.assert_array_equal(a[mask], b[mask])
    # rows are drawn by their number in the global batch: two processes see what one does
    halves = [
        transform(spec, key, batch["inputs"][p::2], rows=np.arange(p, ROWS, 2, dtype=np.int32))
        for p in range(2)
    ]
    for p in range(2):
        np.testing.assert_array_equal(halves[p], a[p::2])


def test_crops_and_flips_are_drawn_apart() -> None:
    """Where they shared a key, the side of a flip would tell the place of the crop."""
    rows, padding = 2000, 2
    spec = DataSpec(
        name="tiny", image_size=8, channels=1, mean=(0.0,), std=(1.0,),
        augment=("crop:2", "flip"),
    )  # fmt: skip
    image = np.zeros((8, 8), np.uint8)
    image[3:5, 3], image[3:5, 4] = 200, 100  # in the middle: stays inside, and has sides
    found = np.asarray(
        transform(spec, jax.random.key(3), np.tile(image[None, :, :, None], (rows, 1, 1, 1)))
    )[..., 0]
    is_flipped = found.max(1).argmax(1) > (found.max(1) > 0.2).argmax(1)
    top = (found.max(2) > 0.2).argmax(1) - (3 - padding)
    left = (found.max(1) > 0.2).argmax(1) - (3 - padding)
    left = np.where(is_flipped, 2 * padding - left, left)
    table = np.zeros((2, 5, 5))
    np.add.at(table, (is_flipped.astype(int), top, left), 1)
    assert table.sum() == rows
    expected = rows / table.size  # 40 a cell; 49 degrees of freedom, 0.999 quantile 85.4
    assert ((table - expected) ** 2 / expected).sum() < 85.4


@pytest.mark.parametrize("kind", ["classification", "ranking", "collect"])
@given(mask=MASKS, seed=st.integers(0, 99))
def test_evaluation(kind: str, mask: np.ndarray, seed: int) -> None:
    made = {
        "classification": metrics.classification(),
        "ranking": auc.ranking(ROWS, CLASSES),
        "collect": metrics.collect(metrics.softmax_cross_entropy, ROWS),
    }
    loss = "multilabel" if kind == "ranking" else "softmax"
    model = MODELS["norm"]
    variables = start("norm").variables
    found = []
    for batch in (a_batch(seed, mask, loss), spoilt(a_batch(seed, mask, loss), seed)):
        batch["index"] = np.arange(ROWS, dtype=np.int32)
        parts = [{name: x[i : i + 4] for name, x in batch.items()} for i in (0, 4)]
        found.append(evaluate(_apply_fn(model), made[kind], variables, lambda p=parts: iter(p)))
    for a, b in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_array_equal(a, b)


@functools.cache
def _apply_fn(model: nn.Module) -> Any:
    return lambda variables, inputs: model.apply(variables, inputs, train=False)


def test_softmax_takes_class_numbers_alone() -> None:
    with pytest.raises(ValueError, match=r"class numbers \[B\] .*, got \(4, 1\); use loss"):
        losses.one_hot(jnp.zeros((4, 1), jnp.int32), 3)


def test_padded_streams_carry_the_mask() -> None:
    stream = streams.from_arrays(np.ones((5, 2)), np.arange(5), batch_size=4)
    assert [b["mask"].tolist() for b in stream()][1] == [True, False, False, False]


def test_each_augmentation_has_a_key_of_its_name() -> None:
    """Keys are the batch's with the crc32 of the name folded in, none shared."""
    spec = dataclasses.replace(tiny.DATA, mean=(0.0,), std=(1.0,), augment=("crop:2", "flip"))
    images = np.random.default_rng(0).integers(0, 256, (ROWS, 8, 8, 1)).astype(np.uint8)
    key = jax.random.key(5)
    crop, flip = (jax.random.fold_in(key, zlib.crc32(name)) for name in (b"crop", b"flip"))
    expected = image_ops.random_flip(flip, image_ops.random_crop(crop, images, 2))
    found = np.rint(255 * np.asarray(transform(spec, key, images)))
    np.testing.assert_array_equal(found, expected)


def test_each_step_mixes_anew() -> None:
    config = StepConfig(MODELS["norm"], "softmax", 0.7, STATIC)
    batch, state = a_batch(0, np.ones(ROWS, bool)), start("norm")
    prepared = jax.jit(functools.partial(_prepared, config))
    first, again, second = (
        np.asarray(prepared(dataclasses.replace(state, step=jnp.int32(i)), batch)[0])
        for i in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != second).any()
