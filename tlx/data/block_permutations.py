"""Permutations for the shuffles of image_ops: numpy only, pure functions of a seed.

They come from `numpy.random.RandomState`, whose streams are frozen, so that they agree
exactly with the authors' on every machine and with every version.
"""

import numpy as np


def block_sizes(image_size: int) -> tuple[int, ...]:
    """The block sizes that divide an image size, ascending.

    >>> block_sizes(32)
    (1, 2, 4, 8, 16, 32)
    """
    return tuple(b for b in range(1, image_size + 1) if image_size % b == 0)


def num_blocks(image_size: int, block_size: int) -> int:
    """The number of blocks in a square image, (image_size / block_size)².

    Args:
      image_size: side of the image in pixels, 1 or more.
      block_size: side of a block in pixels, a divisor of `image_size`.

    Raises:
      ValueError: if blocks of that size do not tile the image.

    >>> num_blocks(32, 8)
    16
    """
    if block_size < 1 or image_size % block_size:
        sizes = ", ".join(map(str, block_sizes(image_size)))
        raise ValueError(
            f"expected a block size that divides the image size {image_size}, got {block_size}; "
            f"use one of {sizes}"
        )
    return (image_size // block_size) ** 2


def block_permutation(image_size: int, block_size: int, seed: int) -> np.ndarray:
    """The order of blocks for `block_shuffle`, `RandomState(seed).permutation(num_blocks)`.

    Args:
      image_size: side of the image in pixels.
      block_size: side of a block in pixels, a divisor of `image_size`.
      seed: 0 to 2³² - 1.

    Returns:
      int32 [num_blocks]: output block k, row-major, is input block `permutation[k]`.

    Raises:
      ValueError: if blocks of that size do not tile the image.
    """
    blocks = num_blocks(image_size, block_size)
    return np.random.RandomState(seed).permutation(blocks).astype(np.int32)


def channel_block_permutations(
    image_size: int, block_size: int, channels: int, seed: int
) -> np.ndarray:
    """One order of blocks per channel for `channel_block_shuffle`.

    All come from one stream `RandomState(seed)`, drawn in the order of the channels, so
    channel 0 moves as in `block_shuffle` with the same seed, and no channel's order is
    that of another seed.

    Args:
      image_size: side of the image in pixels.
      block_size: side of a block in pixels, a divisor of `image_size`.
      channels: number of channels, 1 or more.
      seed: 0 to 2³² - 1.

    Returns:
      int32 [channels, num_blocks]

    Raises:
      ValueError: if blocks of that size do not tile the image.
    """
    blocks = num_blocks(image_size, block_size)
    stream = np.random.RandomState(seed)
    return np.stack([stream.permutation(blocks) for _ in range(channels)]).astype(np.int32)


def pixel_permutation(image_size: int, channels: int, seed: int) -> np.ndarray:
    """The order of values for `pixel_shuffle`, `RandomState(seed).permutation(C·H·W)`.

    Args:
      image_size: side of the image in pixels.
      channels: number of channels.
      seed: 0 to 2³² - 1.

    Returns:
      int32 [channels · image_size²], over the image flattened channel first (CHW).
    """
    count = channels * image_size * image_size
    return np.random.RandomState(seed).permutation(count).astype(np.int32)
