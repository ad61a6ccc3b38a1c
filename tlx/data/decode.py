"""Fitting decoded images to one size and number of channels: numpy only, no compilation.

Images of a dataset can have any size, and a jitted resize would compile for each.
"""

import functools

import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_CHUNK = 1024  # images resized at a time, which bounds the float32 copy


@functools.lru_cache(maxsize=256)
def resize_weights(old: int, new: int) -> np.ndarray:
    """Bilinear weights for one axis, antialiased when shrinking.

    Pixel centres lie at half integers. The weight of input j for output i is a triangle of
    half-width max(old / new, 1) around i's place, normalised; so it agrees with
    `jax.image.resize(..., "bilinear", antialias=True)`.

    Args:
      old: the length of the axis, 1 or more.
      new: the wanted length, 1 or more.

    Returns:
      float32 [new, old], rows summing to 1.
    """
    scale = old / new
    centres = (np.arange(new) + 0.5) * scale - 0.5
    distance = np.abs(np.arange(old)[None, :] - centres[:, None]) / max(scale, 1.0)
    weights = np.maximum(0.0, 1.0 - distance)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def fit(images: np.ndarray, size: int, channels: int) -> np.ndarray:
    """Images cut to their central square, resized, and turned grey or into three channels.

    Resizing is bilinear (`resize_weights`), rounded back to uint8; images that already have the
    requested form are returned as they are. Grey is copied into three channels; colour
    becomes grey by 0.299 R + 0.587 G + 0.114 B.

    Args:
      images: uint8 [..., H, W, C], C being 1 or 3; H and W at least 1.
      size: the wanted side.
      channels: the wanted number of channels, 1 or 3.

    Returns:
      uint8 [..., size, size, channels]

    Raises:
      ValueError: if the dtype or the number of channels is another.
    """
    if images.dtype != np.uint8 or images.ndim < 3 or images.shape[-1] not in (1, 3):
        raise ValueError(
            "expected uint8 images [..., height, width, channels] with 1 or 3 channels, got "
            f"{images.dtype} {images.shape}; convert them in the source"
        )
    height, width = images.shape[-3:-1]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = images[..., top : top + side, left : left + side, :]
    if side != size:
        square = _resize(square, size)
    return to_channels(square, channels)


def to_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """uint8 or float32 images [..., 1 or 3] grey or in three channels, as `fit` does it."""
    if images.shape[-1] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=-1)
    grey = images.astype(np.float32) @ _LUMA[:, None]
    return grey if images.dtype == np.float32 else _to_uint8(grey)


def _resize(images: np.ndarray, size: int) -> np.ndarray:
    *lead, side, _, channels = images.shape
    flat = images.reshape(-1, side, side, channels)
    weights = resize_weights(side, size)
    out = np.empty((len(flat), size, size, channels), np.uint8)
    for start in range(0, len(flat), _CHUNK):
        part = flat[start : start + _CHUNK].astype(np.float32)
        rows = weights @ part.reshape(len(part), side, side * channels)
        both = weights @ rows.reshape(len(part), size, side, channels)
        out[start : start + _CHUNK] = _to_uint8(both)
    return out.reshape(*lead, size, size, channels)


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
