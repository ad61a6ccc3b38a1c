"""From fitted images to a model's inputs: one function for training and evaluation."""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from tlx.data import image_ops, recipe
from tlx.data.spec import DataSpec, parse_augment, parse_shuffle

_CHUNK = 512  # images transformed at a time by `apply`


def transform(
    spec: DataSpec,
    key: Array | None,
    images: Num[Array | np.ndarray, "B S S C"],
    *,
    rows: Int[Array | np.ndarray, " B"] | None = None,
) -> Float[Array, "B S S C"]:
    """A model's inputs: augmented if there is a key, normalised, then shuffled.

    Without a key, or where nothing is augmented here (`spec.device_augments`), each row depends
    on its image alone.
    The shuffle comes after normalisation, as in the paper, and is the same for all images.

    Args:
      spec: says what to do (static: one compilation for each spec and batch size).
      key: one typed PRNG key for the batch, or None for no augmentation.
      images: [B, S, S, C] of spec.image_size and spec.channels, uint8 or, as `spec.fit` says,
        float32 in 0 to 1.
      rows: int32 [B], the number of each image in the global batch; None is 0 to B - 1.
        Augmentation draws by row number, so it does not depend on how many processes
        share the batch.

    Returns:
      float32 [B, S, S, C]

    Raises:
      ValueError: if the images have another size or number of channels. At call.
    """
    expected = (spec.image_size, spec.image_size, spec.channels)
    dtype = np.dtype(recipe.pixel_type(spec.fit))
    if images.shape[1:] != expected or images.dtype != dtype:
        raise ValueError(
            f"expected {dtype} images [batch, {', '.join(map(str, expected))}], got {images.dtype} "
            f"{images.shape}; tlx.data.loader.load_arrays makes them"
        )
    if key is not None and spec.device_augments:
        images = _augmented(spec, key, images, rows)
    return _as_inputs(spec, images)


# Compiled separately: XLA on CPU would crop again for every value that a shuffle reads, at three
# times the total cost.
@functools.partial(jax.jit, static_argnames="spec")
def _augmented(
    spec: DataSpec, key: Array, images: Num[Array, "B S S C"], rows: Int[Array, " B"] | None
) -> Num[Array, "B S S C"]:
    for text in spec.device_augments:
        images = _augment(text, key, images, rows)
    return images


@functools.partial(jax.jit, static_argnames="spec")
def _as_inputs(spec: DataSpec, images: Num[Array, "B S S C"]) -> Float[Array, "B S S C"]:
    return _shuffle(spec, image_ops.normalise(images, spec.mean, spec.std))


def _augment(text: str, key: Array, images: Array, rows: Array | None) -> Array:
    kind, padding = parse_augment(text, images.shape[1])
    own_key = jax.random.fold_in(key, zlib.crc32(kind.encode()))
    if kind == "flip":
        return image_ops.random_flip(own_key, images, rows)
    return image_ops.random_crop(own_key, images, padding, rows)


def _shuffle(spec: DataSpec, images: Array) -> Array:
    kind, block = parse_shuffle(spec.shuffle)
    size, channels, seed = spec.image_size, spec.channels, spec.shuffle_seed
    if kind == "block":
        order = image_ops.block_permutation(size, block, seed)
        return image_ops.block_shuffle(images, block, jnp.asarray(order))
    if kind == "channel_block":
        orders = image_ops.channel_block_permutations(size, block, channels, seed)
        return image_ops.channel_block_shuffle(images, block, jnp.asarray(orders))
    if kind == "pixel":
        order = image_ops.pixel_permutation(size, channels, seed)
        return image_ops.pixel_shuffle(images, jnp.asarray(order))
    return images


def apply(spec: DataSpec, images: np.ndarray) -> np.ndarray:
    """`transform` without augmentation for any number of images, on the host.

    Args:
      spec: says what to do.
      images: [N, S, S, C], as `transform` takes them.

    Returns:
      float32 [N, S, S, C], in host memory, computed in pieces of one shape.
    """
    out = np.empty(images.shape, np.float32)
    chunk = max(1, min(_CHUNK, len(images)))
    for start in range(0, len(images), chunk):
        part = images[start : start + chunk]
        padding = [(0, chunk - len(part)), (0, 0), (0, 0), (0, 0)]
        inputs = transform(spec, None, np.pad(part, padding))
        out[start : start + len(part)] = np.asarray(inputs)[: len(part)]
    return out
