"""RandAugment: a few operations drawn from fourteen, at one magnitude.

As torchvision's `RandAugment` has them, pixel by pixel, for uint8 images [H, W, C] with C 1 or 3:
geometric ones take the nearest pixel and let zeros in.

References: E. Cubuk, B. Zoph, J. Shlens, Q. Le, RandAugment: practical automated data augmentation
with a reduced search space, 2020.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

NUM_OPS = 2
"""Operations an image, drawn with replacement."""

LARGEST = 30
"""The largest magnitude: the ends of the ranges below."""


def _moved(*matrix: float) -> Callable[[Any], Any]:
    def move(image: Any) -> Any:
        from PIL import Image

        affine, nearest = Image.Transform.AFFINE, Image.Resampling.NEAREST
        return image.transform(image.size, affine, matrix, nearest)

    return move


def _enhanced(name: str, factor: float) -> Callable[[Any], Any]:
    def enhance(image: Any) -> Any:
        from PIL import ImageEnhance

        return getattr(ImageEnhance, name)(image).enhance(factor)

    return enhance


def _by(name: str, *args: Any) -> Callable[[Any], Any]:
    def apply(image: Any) -> Any:
        from PIL import ImageOps

        return getattr(ImageOps, name)(image, *args)

    return apply


# name -> `(share of the range in 0 … 1, sign, width, height) -> operation on an image of Pillow`
OPS: dict[str, Callable[[float, int, int, int], Callable[[Any], Any]]] = {
    "identity": lambda x, sign, w, h: lambda image: image,
    "shear_x": lambda x, sign, w, h: _moved(1, sign * 0.3 * x, 0, 0, 1, 0),
    "shear_y": lambda x, sign, w, h: _moved(1, 0, 0, sign * 0.3 * x, 1, 0),
    "translate_x": lambda x, sign, w, h: _moved(1, 0, -sign * int(150 / 331 * w * x), 0, 1, 0),
    "translate_y": lambda x, sign, w, h: _moved(1, 0, 0, 0, 1, -sign * int(150 / 331 * h * x)),
    "rotate": lambda x, sign, w, h: lambda image: image.rotate(sign * 30 * x),
    "brightness": lambda x, sign, w, h: _enhanced("Brightness", 1 + sign * 0.9 * x),
    "color": lambda x, sign, w, h: _enhanced("Color", 1 + sign * 0.9 * x),
    "contrast": lambda x, sign, w, h: _enhanced("Contrast", 1 + sign * 0.9 * x),
    "sharpness": lambda x, sign, w, h: _enhanced("Sharpness", 1 + sign * 0.9 * x),
    "posterize": lambda x, sign, w, h: _by("posterize", 8 - round(4 * x)),
    "solarize": lambda x, sign, w, h: _by("solarize", 255 * (1 - x)),
    "autocontrast": lambda x, sign, w, h: _by("autocontrast"),
    "equalize": lambda x, sign, w, h: _by("equalize"),
}


def randaugment(image: np.ndarray, magnitude: int, rng: np.random.Generator) -> np.ndarray:
    """The image after `NUM_OPS` operations of `OPS`, each with a sign, drawn uniformly.

    Args:
      image: uint8 [H, W, C].
      magnitude: 1 to `LARGEST`.
      rng: draws.
    """
    names = list(OPS)
    for _ in range(NUM_OPS):
        name, sign = names[rng.integers(len(names))], (1, -1)[rng.integers(2)]
        image = applied(image, name, magnitude, sign)
    return image


def applied(image: np.ndarray, name: str, magnitude: int, sign: int) -> np.ndarray:
    """The image after one operation; `sign` is 1 or -1, where it has a direction."""
    from PIL import Image

    made = OPS[name](magnitude / LARGEST, sign, image.shape[1], image.shape[0])
    values = np.asarray(made(Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)))
    return values[:, :, None] if values.ndim == 2 else values
