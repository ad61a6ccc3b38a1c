"""Image operations: the authors' shuffles to the bit, and the laws of each operation."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tlx.data import image_ops as ops

GOLDEN = Path(__file__).parents[1] / "golden" / "shuffle.npz"
SIZE = 12
BLOCKS = (1, 3, 4, 12)  # each compiles
laws = settings(max_examples=12)
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


def to_nhwc(chw):
    return np.transpose(chw, (1, 2, 0))[None]


def some_images(batch=3, size=SIZE, channels=3):
    """Every value is different, so that a bijection can be told from its values."""
    count = batch * size * size * channels
    return jnp.arange(count, dtype=jnp.float32).reshape(batch, size, size, channels)


def inverse(permutation):
    return np.argsort(permutation).astype(np.int32)


def test_block_permutation_is_the_authors(golden):
    expected = golden["permutation_32_by_8"]
    np.testing.assert_array_equal(ops.block_permutation(32, 8, 1234), expected)


@pytest.mark.parametrize("block", [1, 2, 4, 8, 16])
def test_block_shuffle_is_the_authors(golden, block):
    permutation = ops.block_permutation(16, block, int(golden["seed"]))
    out = ops.block_shuffle(to_nhwc(golden["image_chw"]), block, permutation)
    np.testing.assert_array_equal(out, to_nhwc(golden[f"block_shuffle_{block}"]))


def test_pixel_shuffle_is_the_authors(golden):
    permutation = ops.pixel_permutation(16, 3, int(golden["seed"]))
    out = ops.pixel_shuffle(to_nhwc(golden["image_chw"]), permutation)
    np.testing.assert_array_equal(out, to_nhwc(golden["pixel_shuffle"]))


def plain_block_shuffle(image, block, permutation):
    """A twin written from the definition."""
    grid = image.shape[0] // block
    out = np.empty_like(image)
    for k, source in enumerate(permutation):
        (r, c), (i, j) = divmod(k, grid), divmod(int(source), grid)
        out[r * block : (r + 1) * block, c * block : (c + 1) * block] = image[
            i * block : (i + 1) * block, j * block : (j + 1) * block
        ]
    return out


@laws
@given(seeds, st.sampled_from(BLOCKS))
def test_block_shuffle_is_its_definition_for_every_image(seed, block):
    images = some_images()
    permutation = ops.block_permutation(SIZE, block, seed)
    out = ops.block_shuffle(images, block, permutation)
    expected = [plain_block_shuffle(x, block, permutation) for x in np.asarray(images)]
    np.testing.assert_array_equal(out, np.stack(expected))


@laws
@given(seeds, st.sampled_from(BLOCKS))
def test_shuffles_are_bijections_that_the_inverse_undoes(seed, block):
    images = some_images()
    p = ops.block_permutation(SIZE, block, seed)
    c = ops.channel_block_permutations(SIZE, block, 3, seed)
    x = ops.pixel_permutation(SIZE, 3, seed)
    back = np.stack([inverse(row) for row in c])
    pairs = [
        (
            lambda i: ops.block_shuffle(i, block, p),
            lambda i: ops.block_shuffle(i, block, inverse(p)),
        ),
        (
            lambda i: ops.channel_block_shuffle(i, block, c),
            lambda i: ops.channel_block_shuffle(i, block, back),
        ),
        (lambda i: ops.pixel_shuffle(i, x), lambda i: ops.pixel_shuffle(i, inverse(x))),
    ]
    for forward, backward in pairs:
        out = forward(images)
        assert out.dtype == images.dtype
        for before, after in zip(images, out, strict=True):
            np.testing.assert_array_equal(np.sort(before, axis=None), np.sort(after, axis=None))
        np.testing.assert_array_equal(backward(out), images)


@laws
@given(seeds, st.sampled_from(BLOCKS))
def test_shuffles_commute_with_batching(seed, block):
    images, cut = some_images(batch=4), 1
    p = ops.block_permutation(SIZE, block, seed)
    c = ops.channel_block_permutations(SIZE, block, 3, seed)
    x = ops.pixel_permutation(SIZE, 3, seed)
    for shuffle in (
        lambda i: ops.block_shuffle(i, block, p),
        lambda i: ops.channel_block_shuffle(i, block, c),
        lambda i: ops.pixel_shuffle(i, x),
    ):
        parts = jnp.concatenate([shuffle(images[:cut]), shuffle(images[cut:])])
        np.testing.assert_array_equal(shuffle(images), parts)


@laws
@given(seeds)
def test_a_block_as_large_as_the_image_changes_nothing(seed):
    images = some_images()
    p = ops.block_permutation(SIZE, SIZE, seed)
    c = ops.channel_block_permutations(SIZE, SIZE, 3, seed)
    np.testing.assert_array_equal(ops.block_shuffle(images, SIZE, p), images)
    np.testing.assert_array_equal(ops.channel_block_shuffle(images, SIZE, c), images)


@laws
@given(seeds, st.sampled_from(BLOCKS))
def test_channel_block_shuffle_is_block_shuffle_in_each_channel(seed, block):
    images = some_images()
    orders = ops.channel_block_permutations(SIZE, block, 3, seed)
    np.testing.assert_array_equal(orders[0], ops.block_permutation(SIZE, block, seed))
    out = ops.channel_block_shuffle(images, block, orders)
    for channel, order in enumerate(orders):
        alone = ops.block_shuffle(images[..., channel : channel + 1], block, order)
        np.testing.assert_array_equal(out[..., channel : channel + 1], alone)


def test_shuffles_keep_every_dtype():
    for dtype in (jnp.uint8, jnp.bfloat16, jnp.int32):
        images = some_images().astype(dtype)
        assert ops.block_shuffle(images, 4, ops.block_permutation(SIZE, 4, 0)).dtype == dtype
        assert ops.pixel_shuffle(images, ops.pixel_permutation(SIZE, 3, 0)).dtype == dtype


def test_shuffles_take_an_empty_batch():
    images = some_images()[:0]
    out = ops.block_shuffle(images, 4, ops.block_permutation(SIZE, 4, 0))
    assert out.shape == images.shape


def test_block_size_must_divide_the_image():
    message = (
        r"expected a block size that divides the image size 12, got 5; "
        r"use one of 1, 2, 3, 4, 6, 12"
    )
    with pytest.raises(ValueError, match=message):
        ops.block_permutation(SIZE, 5, 0)
    with pytest.raises(ValueError, match=message):
        ops.channel_block_permutations(SIZE, 5, 3, 0)
    with pytest.raises(ValueError, match=message):
        ops.block_shuffle(some_images(), 5, np.zeros(4, np.int32))
    with pytest.raises(ValueError, match="image size 12, got 0"):
        ops.num_blocks(SIZE, 0)


def test_wrong_permutation_or_shape_is_refused():
    with pytest.raises(ValueError, match=r"of shape \(9,\) .* got \(4,\); make it with"):
        ops.block_shuffle(some_images(), 4, ops.block_permutation(SIZE, 6, 0))
    with pytest.raises(ValueError, match=r"of shape \(432,\) .* got \(144,\)"):
        ops.pixel_shuffle(some_images(), ops.pixel_permutation(SIZE, 1, 0))
    with pytest.raises(ValueError, match=r"of shape \(3, 9\) .* got \(9,\)"):
        ops.channel_block_shuffle(some_images(), 4, ops.block_permutation(SIZE, 4, 0))
    with pytest.raises(ValueError, match=r"square images .* got \(3, 12, 10, 3\)"):
        ops.block_shuffle(some_images()[:, :, :10], 2, ops.block_permutation(SIZE, 2, 0))


def test_normalise_against_numpy():
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3)).astype(np.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    out = ops.normalise(images, mean, std)
    expected = (images.astype(np.float64) / 255 - np.array(mean)) / np.array(std)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, expected, atol=1e-6)
    floats = (images / 255).astype(np.float32)
    np.testing.assert_allclose(ops.normalise(floats, mean, std), expected, atol=1e-6)
    with pytest.raises(ValueError, match="mean and std of 3 numbers, one a channel, got 1 and 3"):
        ops.normalise(images, (0.5,), std)


def test_random_crop_is_a_window_of_the_padded_image():
    images = np.asarray(some_images(batch=256, size=6, channels=1)) + 1
    out = np.asarray(ops.random_crop(jax.random.key(0), images, 2))
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    places = set()
    for whole, window in zip(padded, out, strict=True):
        found = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if np.array_equal(whole[top : top + 6, left : left + 6], window)
        ]
        assert len(found) == 1
        places.update(found)
    assert len(places) == 25  # every one, among 256 images
    np.testing.assert_array_equal(ops.random_crop(jax.random.key(0), images, 0), images)
    with pytest.raises(ValueError, match="expected padding of at least 0, got -1"):
        ops.random_crop(jax.random.key(0), images, -1)


def test_random_flip_mirrors_about_half():
    images = np.asarray(some_images(batch=200, size=4, channels=1))
    out = np.asarray(ops.random_flip(jax.random.key(1), images))
    mirrored = [np.array_equal(a[:, ::-1], b) for a, b in zip(images, out, strict=True)]
    kept = [np.array_equal(a, b) for a, b in zip(images, out, strict=True)]
    assert all(m != k for m, k in zip(mirrored, kept, strict=True))
    assert 70 < sum(mirrored) < 130


@pytest.mark.parametrize("op", ["crop", "flip"])
def test_augmentation_follows_the_row_number_and_the_key(op):
    images = some_images(batch=8)

    def run(key, part, rows=None):
        if op == "crop":
            return ops.random_crop(key, part, 3, rows)
        return ops.random_flip(key, part, rows)

    key = jax.random.key(5)
    whole = run(key, images)
    rows = jnp.arange(8, dtype=jnp.int32)[1::2]
    np.testing.assert_array_equal(run(key, images[1::2], rows), whole[1::2])
    np.testing.assert_array_equal(run(key, images), whole)
    assert not np.array_equal(run(jax.random.key(6), images), whole)


def test_mixup_has_one_weight_and_partners_from_the_batch():
    images = np.eye(16, dtype=np.float32)  # so that a row shows who was mixed, and how much
    labels = np.eye(16, dtype=np.float32)
    mixed, targets = ops.mixup(jax.random.key(3), images, labels, 0.7)
    np.testing.assert_array_equal(mixed, targets)
    np.testing.assert_allclose(np.sum(mixed, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.sum(mixed, axis=0), 1, atol=1e-6)  # each is a partner once
    own = np.diag(mixed)
    weights = own[own < 1 - 1e-6]  # the others are their own partners
    np.testing.assert_allclose(weights, weights[0], atol=1e-6)


def test_mixup_weight_is_beta():
    images, labels = np.array([[0.0], [1.0]], np.float32), np.eye(2, dtype=np.float32)
    keys = jax.random.split(jax.random.key(0), 2000)
    mixed = jax.vmap(lambda key: ops.mixup(key, images, labels, 0.7)[0])(keys)[:, 1, 0]
    weights = np.asarray(mixed)[np.asarray(mixed) < 1]  # partner is the other: the weight itself
    variance = 0.5 * 0.5 / (2 * 0.7 + 1)
    assert abs(weights.mean() - 0.5) < 0.04
    assert abs(weights.var() - variance) < 0.02


def test_mixup_off_and_wrong():
    images, labels = some_images(), np.eye(3, dtype=np.float32)
    same = ops.mixup(jax.random.key(0), images, labels, 0.0)
    np.testing.assert_array_equal(same[0], images)
    np.testing.assert_array_equal(same[1], labels)
    with pytest.raises(ValueError, match=r"alpha of at least 0, got -0.1"):
        ops.mixup(jax.random.key(0), images, labels, -0.1)
    with pytest.raises(TypeError, match="floating labels for mixup, got int32"):
        ops.mixup(jax.random.key(0), images, np.zeros((3, 3), np.int32), 0.7)
    with pytest.raises(TypeError, match="floating images for mixup, got uint8"):
        ops.mixup(jax.random.key(0), images.astype(jnp.uint8), labels, 0.7)
