"""Operations on one decoded image on the host, where sizes differ: numpy and Pillow.

Each operation takes uint8 [H, W, C], C being 1 or 3, and gives the same with another size or
other values. They are those of published recipes: pixels equal torchvision's, and OpenCV's on
uint8 but for `resize_long`. `center_crop`, `resize_long`, `pad` and `blur` take float32 in 0 to 1
as well (`to_float`) and then do not round. `tlx.data.recipe` names them for configs.
"""

import math
from typing import Any

import numpy as np

FILL = 128
"""The grey used at borders in the recipe for chest X-rays."""

DEGREES, SHIFT, ZOOM = 15.0, 0.05, (0.95, 1.05)
AREA, RATIO, TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10


def resize_short(image: np.ndarray, size: int) -> np.ndarray:
    """The image with its shorter side `size`, the longer one ⌊size · long / short⌋.

    Bilinear, antialiased when shrinking, as Pillow does it.
    """
    height, width = image.shape[:2]
    short, long = min(height, width), max(height, width)
    longer = int(size * long / short)
    return _pillow_resize(image, (size, longer) if height <= width else (longer, size))


def center_crop(image: np.ndarray, size: int) -> np.ndarray:
    """The central square; where the image is smaller, zeros come in on both sides."""
    before = [max(0, (size - length) // 2) for length in image.shape[:2]]
    after = [max(0, (size - length + 1) // 2) for length in image.shape[:2]]
    image = np.pad(image, (*zip(before, after, strict=True), (0, 0)))
    # half a pixel is rounded to even, as Python does and so torchvision
    top, left = (round((length - size) / 2.0) for length in image.shape[:2])
    return image[top : top + size, left : left + size]


def resized_crop(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A random part of the image, resized to a square.

    The part has 8 to 100 % of the area and sides in a ratio of 3/4 to 4/3, uniform in its
    logarithm; after ten that do not fit, the largest central part with an allowed ratio.

    References:
      C. Szegedy et al., Going deeper with convolutions, 2014.
    """
    top, left, height, width = crop_box(image.shape[0], image.shape[1], rng)
    return _pillow_resize(image[top : top + height, left : left + width], (size, size))


def crop_box(height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """The part that `resized_crop` takes: top, left, height, width."""
    for _ in range(TRIES):
        area = height * width * rng.uniform(*AREA)
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
            return int(top), int(left), h, w
    w, h = width, height
    if width / height < RATIO[0]:
        h = round(w / RATIO[0])
    elif width / height > RATIO[1]:
        w = round(h * RATIO[1])
    return (height - h) // 2, (width - w) // 2, h, w


def affine(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image turned, shifted and scaled at random about its centre; 128 comes in.

    Each pixel is the nearest of the original. Turned by -15 to 15 degrees, shifted by whole
    pixels of at most 5 % of each side, scaled by 0.95 to 1.05, each uniform.
    """
    from PIL import Image

    height, width = image.shape[:2]
    angle = rng.uniform(-DEGREES, DEGREES)
    x, y = (round(rng.uniform(-SHIFT * n, SHIFT * n)) for n in (width, height))
    matrix = inverse_affine((width / 2, height / 2), angle, (x, y), rng.uniform(*ZOOM))
    fill = FILL if image.shape[2] == 1 else (FILL,) * 3
    moved = _pillow(image).transform(
        (width, height), Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST, fillcolor=fill
    )
    return _array(moved)


def inverse_affine(
    center: tuple[float, float], angle: float, shift: tuple[float, float], zoom: float
) -> tuple[float, ...]:
    """The 2x3 matrix, row by row, from places in the new image to places in the old one.

    The inverse of: turn clockwise by `angle` degrees and scale about the centre, then shift.
    """
    cos, sin = math.cos(math.radians(angle)) / zoom, math.sin(math.radians(angle)) / zoom
    x, y = center[0] + shift[0], center[1] + shift[1]
    return (
        cos,
        sin,
        center[0] - cos * x - sin * y,
        -sin,
        cos,
        center[1] + sin * x - cos * y,
    )


def equalize(image: np.ndarray) -> np.ndarray:
    """A grey image with its histogram spread: v becomes 255 · (below or at v) / all.

    Counts leave out the darkest value that occurs, which becomes 0. An image of one value stays.

    Raises:
      ValueError: if the image is not grey.
    """
    if image.shape[2] != 1:
        raise ValueError(
            f"expected grey images for equalize, got {image.shape[2]} channels; use a source of "
            "grey ones"
        )
    counts = np.bincount(image.ravel(), minlength=256)
    darkest = int(np.flatnonzero(counts)[0])
    rest = image.size - counts[darkest]
    if rest == 0:
        return image
    counts[: darkest + 1] = 0
    scale = np.float32(255.0) / np.float32(rest)
    table = np.rint(np.cumsum(counts).astype(np.float32) * scale)
    return np.clip(table, 0, 255).astype(np.uint8)[image]


def to_float(image: np.ndarray) -> np.ndarray:
    """The image as float32 in 0 to 1, so that what follows does not round to grey levels."""
    return image.astype(np.float32) / np.float32(255)


def resize_long(image: np.ndarray, size: int) -> np.ndarray:
    """The image with its longer side `size`, between the four nearest pixels, not antialiased.

    Numerics: in float32, and for uint8 rounded; there OpenCV, in fixed point, can differ by one
    grey level.
    """
    height, width = image.shape[:2]
    ratio = max(height, width) / min(height, width)
    shorter = max(1, round(size / ratio))
    new_height, new_width = (size, shorter) if height >= width else (shorter, size)
    low, high, weight = _neighbours(height, new_height)
    weight = weight[:, None, None]
    rows = image[low] * (1 - weight) + image[high] * weight
    low, high, weight = _neighbours(width, new_width)
    weight = weight[None, :, None]
    found = rows[:, low] * (1 - weight) + rows[:, high] * weight
    return found if image.dtype == np.float32 else np.rint(found).astype(np.uint8)


def _neighbours(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    places = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    low = places.astype(np.int64)
    return low, np.minimum(low + 1, old - 1), (places - low).astype(np.float32)


def pad(image: np.ndarray, size: int) -> np.ndarray:
    """The image in the upper left corner of a square of 128.

    Raises:
      ValueError: if it is larger.
    """
    height, width = image.shape[:2]
    if max(height, width) > size:
        raise ValueError(
            f"expected an image of at most {size}x{size} for pad:{size}, got {height}x{width}; put "
            f"resize_long:{size} before it"
        )
    around = ((0, size - height), (0, size - width), (0, 0))
    fill = FILL / 255 if image.dtype == np.float32 else FILL
    return np.pad(image, around, constant_values=fill)


def blur(image: np.ndarray) -> np.ndarray:
    """Each pixel with its neighbours, weights 1, 2, 1 along both axes; reflected at borders."""
    around = ((1, 1), (1, 1), (0, 0))
    has_inner = min(image.shape[:2]) > 1
    wide = (
        np.pad(image, around, mode="reflect") if has_inner else np.pad(image, around, mode="edge")
    )
    if image.dtype == np.uint8:
        wide = wide.astype(np.uint16)
    rows = wide[:-2] + 2 * wide[1:-1] + wide[2:]
    total = rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]
    return total / 16 if image.dtype == np.float32 else ((total + 8) >> 4).astype(np.uint8)


def _pillow_resize(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    if image.shape[:2] == shape:
        return image
    return _array(_pillow(image).resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def _pillow(image: np.ndarray) -> Any:
    from PIL import Image

    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)


def _array(image: Any) -> np.ndarray:
    values = np.asarray(image)
    return values[:, :, None] if values.ndim == 2 else values
