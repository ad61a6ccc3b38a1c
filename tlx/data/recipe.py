"""How decoded images are brought to the size of a spec: operations of `tlx.data.host_ops` by name.

| name | what |
|---|---|
| "resize_short:256" | shorter side 256, bilinear with antialiasing (torchvision's Resize) |
| "center_crop:224" | the centre, with zeros where the image is smaller (CenterCrop) |
| "resized_crop:224" | a random part of random shape, resized (RandomResizedCrop) |
| "affine" | turned by up to 15°, shifted by up to 5 %, scaled by up to 5 % (RandomAffine) |
| "randaugment:9" | two of fourteen operations at magnitude 9 of 30 (RandAugment) |
| "equalize" | grey: histogram equalised (OpenCV's equalizeHist) |
| "float" | from here on in float32: what follows does not round to grey levels |
| "resize_long:224" | longer side 224, bilinear between four pixels (OpenCV's resize) |
| "pad:224" | 128 below and to the right |
| "blur" | the weights 1, 2, 1 along both axes (OpenCV's GaussianBlur of size 3) |
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from tlx.core.checks import unknown
from tlx.data import host_ops, randaugment


class HostOp(NamedTuple):
    """An operation by its name.

    Attributes:
      name: as a config writes it.
      is_random: whether it draws.
      size: the side of the resulting square, 0 if it is not fixed.
      apply: `(image, rng) -> image`; rng may be None where nothing is drawn.
    """

    name: str
    is_random: bool
    size: int
    apply: Callable[[np.ndarray, np.random.Generator | None], np.ndarray]


class _Kind(NamedTuple):
    function: Callable[..., np.ndarray]
    has_size: bool = False
    is_square: bool = False
    is_random: bool = False


FLOAT = "float"
IN_FLOAT = ("center_crop", "resize_long", "pad", "blur")
"""What can follow it."""

_KINDS = {
    "affine": _Kind(host_ops.affine, is_random=True),
    "blur": _Kind(host_ops.blur),
    "center_crop": _Kind(host_ops.center_crop, has_size=True, is_square=True),
    "equalize": _Kind(host_ops.equalize),
    FLOAT: _Kind(host_ops.to_float),
    "pad": _Kind(host_ops.pad, has_size=True, is_square=True),
    "resize_long": _Kind(host_ops.resize_long, has_size=True),
    "resize_short": _Kind(host_ops.resize_short, has_size=True),
    "randaugment": _Kind(randaugment.randaugment, has_size=True, is_random=True),
    "resized_crop": _Kind(host_ops.resized_crop, has_size=True, is_square=True, is_random=True),
}


def parse(text: str) -> HostOp:
    """The operation of a name.

    Raises:
      ValueError: an unknown name, or a size that is missing, unwanted or below 1.

    >>> parse("center_crop:224").size
    224
    """
    name, colon, number = text.partition(":")
    if name not in _KINDS:
        raise ValueError(unknown("operation on decoded images", name, _KINDS))
    kind = _KINDS[name]
    if kind.has_size and not (number.isascii() and number.isdigit() and int(number) >= 1):
        raise ValueError(
            f"expected {name!r} with a size of at least 1, as {name}:224, got {text!r}"
        )
    if colon and not kind.has_size:
        raise ValueError(f"expected {name!r} without a size, got {text!r}")
    size = int(number) if kind.has_size else 0

    def apply(image: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        given = ((size,) if kind.has_size else ()) + ((rng,) if kind.is_random else ())
        return kind.function(image, *given)

    return HostOp(text, kind.is_random, size if kind.is_square else 0, apply)


def output_size(ops: Iterable[HostOp]) -> int | None:
    """The side of the square that operations leave; None if images may differ in size.

    >>> output_size([parse("resize_short:256"), parse("center_crop:224"), parse("blur")])
    224
    """
    size = None
    for op in ops:
        if op.size:
            size = op.size
        elif op.name.startswith("resize_"):
            size = None
    return size


def pixel_type(texts: Sequence[str]) -> type[np.generic]:
    """What pixels are after operations: uint8 of 0 to 255, or float32 of 0 to 1."""
    return np.float32 if FLOAT in texts else np.uint8


def order_problem(texts: Sequence[str], augment: Sequence[str]) -> str | None:
    """The problem of a combination of known operations, in words; None if there is none."""
    if FLOAT not in texts:
        return None
    if "resized_crop" in augment:
        return f"expected no {FLOAT!r} with augment 'resized_crop', which takes the place of fit"
    if any(text.startswith("randaugment") for text in augment):
        return f"expected no {FLOAT!r} with augment 'randaugment', which is of grey levels"
    after = [t for t in texts[texts.index(FLOAT) + 1 :] if t.partition(":")[0] not in IN_FLOAT]
    if not after:
        return None
    return f"expected only {', '.join(IN_FLOAT)} after {FLOAT!r}, got {', '.join(after)}"


def run(
    ops: Iterable[HostOp], image: np.ndarray, rng: np.random.Generator | None = None
) -> np.ndarray:
    """The image after all operations in order.

    Args:
      ops: from `parse`.
      image: uint8 [H, W, C], C being 1 or 3.
      rng: that random ones draw from.

    Returns:
      [H', W', C] of `pixel_type`.

    Raises:
      ValueError: if the dtype or the number of channels is another.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ValueError(
            "expected a uint8 image [height, width, channels] with 1 or 3 channels, got "
            f"{image.dtype} {image.shape}; convert it in the source"
        )
    for op in ops:
        image = op.apply(image, rng)
    return image
