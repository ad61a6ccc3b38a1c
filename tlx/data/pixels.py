"""The pixels of an image file as uint8, for any format of the file.

| in the file | treatment |
|---|---|
| 8 bits and fewer, grey, colour, palette, CMYK, YCbCr | Pillow's conversion |
| 16 bits, grey or colour, of PNG, TIFF and PNM | value / 257, rounded (12 bits: · 255 / 4095) |
| transparency | left out; the colours beneath stand, as torchvision and TensorFlow read it |
| an orientation in EXIF | not applied, as torchvision |
| several frames or pages | the first |
| 32-bit or signed integers, floats, LAB | refused: they have no scale that a file states |

JPEG 2000 and others of 16 bits a colour are cut to their upper 8 bits by Pillow.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from tlx.data.labelled import BadImage

_GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N")
_SCALED = ("PNG", "TIFF", "PPM", "JPEG2000")
"""Formats whose 16-bit values are known to run from 0 to 65535."""

_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF


def read_image(file: Path, mode: str = "RGB") -> np.ndarray:
    """The pixels of an image file: uint8 [H, W, 3], or [H, W, 1] for mode "L".

    Raises:
      BadImage: naming the file and what is wrong with it.
    """
    from PIL import Image

    try:
        with Image.open(file) as image:
            pixels = _pixels(image, file, mode)
    except Exception as error:  # decoders raise all kinds of errors for a broken file
        raise BadImage(
            f"{shown(file)}: expected a readable image, got a broken one ({error})"
        ) from error
    return pixels[:, :, None] if mode == "L" else pixels


def shown(path: Any) -> str:
    """A path in words that can be printed, also where its name is not UTF-8."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def _pixels(image: Any, file: Path, mode: str) -> np.ndarray:
    from PIL import Image

    if image.mode in _GREY_16 or (image.mode == "I" and image.format in ("PNG", "PPM")):
        grey = Image.fromarray(_grey_16(image))
        return np.asarray(grey.convert(mode))
    if image.mode in ("I", "F"):
        kind = "floating-point" if image.mode == "F" else "32-bit or signed"
        raise ValueError(f"{kind} pixels, whose scale is not known; save it with 8 or 16 bits")
    if image.mode in ("RGB", "RGBA") and image.tile and all(map(_is_16, image.tile)):
        low = _low_bytes(file)
        high = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(_to_8_bits(256 * high + low, 65535), image.mode)
    if image.mode in ("P", "PA", "La", "RGBa"):  # by way of its colours, transparency apart
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    return np.asarray(image.convert(mode))


def _grey_16(image: Any) -> np.ndarray:
    if image.format not in _SCALED:
        raise ValueError(f"16-bit pixels of {image.format}, whose scale is not known")
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS, (16,))[0]
    found = _to_8_bits(np.asarray(image).astype(np.uint32), 2**bits - 1)
    return 255 - found if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else found


def _to_8_bits(values: np.ndarray, most: int) -> np.ndarray:
    """0 … most as 0 … 255, rounded; no value is halfway, `most` being odd."""
    return ((values.astype(np.uint32) * 255 + most // 2) // most).astype(np.uint8)


def _raw(tile: Any) -> Any:
    """How the values of a tile are stored, in Pillow's words."""
    return tile[3] if isinstance(tile[3], str) else (tile[3] or ("",))[0]


def _is_16(tile: Any) -> bool:
    """Whether Pillow decodes the upper bytes alone of 16-bit colours, not premultiplied."""
    return str(_raw(tile)).endswith((";16B", ";16L", ";16N")) and "a" not in _raw(tile)


def _low_bytes(file: Path) -> np.ndarray:
    """The lower bytes of a 16-bit image: decoded as if a value's bytes stood in the other order."""
    from PIL import Image

    with Image.open(file) as image:
        has_grey = any(_raw(tile) == "LA;16B" for tile in image.tile)
        image.tile = [_swapped(tile) for tile in image.tile]
        found = np.asarray(image)
    return found[:, :, [1, 1, 1, 3]] if has_grey else found


def _swapped(tile: Any) -> Any:
    raw = _raw(tile)
    native = "B" if sys.byteorder == "little" else "L"
    other = raw[:-1] + {"B": "L", "L": "B", "N": native}[raw[-1]]
    if raw == "LA;16B":  # Pillow has no other; four bytes a pixel as they stand
        other = "RGBA"
    return tile._replace(args=other if isinstance(tile[3], str) else (other, *tile[3][1:]))
