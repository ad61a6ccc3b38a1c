"""Image operations: pure functions of NHWC arrays, jitted, with explicit keys.

The shuffles are those of Neyshabur, Sedghi, Zhang, "What is being transferred in transfer
learning?" (NeurIPS 2020), section 3: one fixed permutation per seed, shared by all images.
The permutations are made in tlx.data.block_permutations and mixup in tlx.data.mixing, and named
here too.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from tlx.data.block_permutations import (
    block_permutation,
    block_sizes,
    channel_block_permutations,
    num_blocks,
    pixel_permutation,
)
from tlx.data.mixing import mixup

__all__ = [
    "block_permutation",
    "block_shuffle",
    "block_sizes",
    "channel_block_permutations",
    "channel_block_shuffle",
    "mixup",
    "normalise",
    "num_blocks",
    "pixel_permutation",
    "pixel_shuffle",
    "random_crop",
    "random_flip",
]


def _square(images: Array) -> int:
    if images.ndim != 4 or images.shape[1] != images.shape[2]:
        raise ValueError(
            f"expected square images [batch, size, size, channels], got {images.shape}; "
            "crop or resize them first"
        )
    return int(images.shape[1])


def _permutation_shape(permutation: Array, expected: tuple[int, ...], source: str) -> None:
    if permutation.shape != expected:
        raise ValueError(
            f"expected a permutation of shape {expected} for these images and this block size, got "
            f"{permutation.shape}; make it with {source}"
        )


def _cut(images: Array, block: int) -> Array:
    """[B, S, S, C] to [B, blocks, block, block, C], blocks in row-major order."""
    batch, size, _, channels = images.shape
    grid = size // block
    rows = images.reshape(batch, grid, block, grid, block, channels)
    return rows.transpose(0, 1, 3, 2, 4, 5).reshape(batch, grid * grid, block, block, channels)


def _join(blocks: Array, size: int) -> Array:
    """The inverse of `_cut`."""
    batch, _, block, _, channels = blocks.shape
    grid = size // block
    rows = blocks.reshape(batch, grid, grid, block, block, channels)
    return rows.transpose(0, 1, 3, 2, 4, 5).reshape(batch, size, size, channels)


@functools.partial(jax.jit, static_argnames="block_size")
def block_shuffle(
    images: Num[Array, "B S S C"], block_size: int, permutation: Int[Array, " blocks"]
) -> Num[Array, "B S S C"]:
    """Images with their blocks in another order, the same for every image.

    Output block k, counted row by row, is input block `permutation[k]`; the channels of a
    block move together. A block as large as the image changes nothing. Values are moved,
    never computed, so the result is exact for every dtype.

    Args:
      images: any dtype [B, S, S, C].
      block_size: side of a block in pixels, a divisor of S (static under jit).
      permutation: int [(S / block_size)²], from `block_permutation`.

    Returns:
      the dtype of `images` [B, S, S, C].

    Raises:
      ValueError: if the images are not square, blocks of that size do not tile them, or the
        permutation has another length. At call, also while tracing.

    References:
      Neyshabur, Sedghi, Zhang (2020), section 3.1 and figure 3.
    """
    size = _square(images)
    expected = (num_blocks(size, block_size),)
    _permutation_shape(permutation, expected, "block_permutation(image_size, block_size, seed)")
    return _join(jnp.take(_cut(images, block_size), permutation, axis=1), size)


@functools.partial(jax.jit, static_argnames="block_size")
def channel_block_shuffle(
    images: Num[Array, "B S S C"], block_size: int, permutations: Int[Array, "C blocks"]
) -> Num[Array, "B S S C"]:
    """Images whose blocks are reordered in each channel by itself, the same for every image.

    Output block k of channel c is input block `permutations[c, k]` of channel c.

    Args:
      images: any dtype [B, S, S, C].
      block_size: side of a block in pixels, a divisor of S (static under jit).
      permutations: int [C, (S / block_size)²], from `channel_block_permutations`.

    Returns:
      the dtype of `images` [B, S, S, C].

    Raises:
      ValueError: as `block_shuffle`.
    """
    size = _square(images)
    expected = (images.shape[3], num_blocks(size, block_size))
    source = "channel_block_permutations(image_size, block_size, channels, seed)"
    _permutation_shape(permutations, expected, source)
    move = jax.vmap(lambda blocks, p: jnp.take(blocks, p, axis=1), in_axes=(-1, 0), out_axes=-1)
    return _join(move(_cut(images, block_size), permutations), size)


@jax.jit
def pixel_shuffle(
    images: Num[Array, "B S S C"], permutation: Int[Array, " values"]
) -> Num[Array, "B S S C"]:
    """Images with all their values in another order, across channels too.

    The permutation acts on the image flattened channel first, as the authors' does: value k
    of the output's CHW vector is value `permutation[k]` of the input's.

    Args:
      images: any dtype [B, S, S, C].
      permutation: int [C · S²], from `pixel_permutation`.

    Returns:
      the dtype of `images` [B, S, S, C].

    Raises:
      ValueError: if the images are not square or the permutation has another length.
        At call, also while tracing.
    """
    size = _square(images)
    batch, channels = images.shape[0], images.shape[3]
    expected = (channels * size * size,)
    _permutation_shape(permutation, expected, "pixel_permutation(image_size, channels, seed)")
    vectors = images.transpose(0, 3, 1, 2).reshape(batch, -1)
    shuffled = jnp.take(vectors, permutation, axis=1)
    return shuffled.reshape(batch, channels, size, size).transpose(0, 2, 3, 1)


@functools.partial(jax.jit, static_argnames=("mean", "std"))
def normalise(
    images: Num[Array, "B H W C"], mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Array, "B H W C"]:
    """`(x - mean) / std` by channel, x being in 0 to 1.

    Args:
      images: uint8 [B, H, W, C], taken as 0 to 255 and divided by 255; or float, taken as
        it is.
      mean: one number a channel, in units of x (static under jit).
      std: one number a channel, above 0, in units of x (static under jit).

    Returns:
      float32 [B, H, W, C]

    Raises:
      ValueError: if mean or std have another length than the channels. While tracing.
    """
    channels = images.shape[-1]
    if len(mean) != channels or len(std) != channels:
        raise ValueError(
            f"expected mean and std of {channels} numbers, one a channel, got {len(mean)} and "
            f"{len(std)}"
        )
    unit = 1 / 255 if images.dtype == jnp.uint8 else 1.0
    scaled = images.astype(jnp.float32) * jnp.float32(unit)
    shape = (1,) * (images.ndim - 1) + (channels,)
    centre = jnp.asarray(mean, jnp.float32).reshape(shape)
    return (scaled - centre) / jnp.asarray(std, jnp.float32).reshape(shape)


def _row_keys(key: Array, images: Array, rows: Array | None) -> Array:
    numbers = jnp.arange(images.shape[0], dtype=jnp.int32) if rows is None else rows
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, numbers)


@functools.partial(jax.jit, static_argnames="padding")
def random_crop(
    key: Array, images: Num[Array, "B H W C"], padding: int, rows: Int[Array, " B"] | None = None
) -> Num[Array, "B H W C"]:
    """Each image shifted by up to `padding` pixels each way, zeros coming in.

    The same as padding by `padding` zeros on every side and cutting a window of the old
    size at a place drawn for each image, uniform over (2·padding + 1)² places.

    Args:
      key: one typed PRNG key for the batch.
      images: any dtype [B, H, W, C].
      padding: 0 or more (static under jit); 0 changes nothing.
      rows: int32 [B], the number of each image in the global batch, from which its own key
        is folded, so that processes which hold parts of a batch draw what one would; None
        is 0 to B - 1.

    Returns:
      the dtype of `images` [B, H, W, C].

    Raises:
      ValueError: if padding is negative. While tracing.
    """
    if padding < 0:
        raise ValueError(f"expected padding of at least 0, got {padding}")
    around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(images, around)

    def crop(row_key: Array, image: Array) -> Array:
        top, left = jax.random.randint(row_key, (2,), 0, 2 * padding + 1)
        return jax.lax.dynamic_slice(image, (top, left, jnp.zeros_like(top)), images.shape[1:])

    return jax.vmap(crop)(_row_keys(key, images, rows), padded)


@jax.jit
def random_flip(
    key: Array, images: Num[Array, "B H W C"], rows: Int[Array, " B"] | None = None
) -> Num[Array, "B H W C"]:
    """Each image mirrored left to right with probability one half.

    Args:
      key: one typed PRNG key for the batch.
      images: any dtype [B, H, W, C].
      rows: as in `random_crop`.

    Returns:
      the dtype of `images` [B, H, W, C].
    """
    flip = jax.vmap(jax.random.bernoulli)(_row_keys(key, images, rows))
    return jnp.where(flip[:, None, None, None], images[:, :, ::-1], images)
