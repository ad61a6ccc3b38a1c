"""Pixels of files of every depth, against values written by hand."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlx.data.labelled import BadImage
from tlx.data.pixels import read_image

Image = pytest.importorskip("PIL.Image")

RNG = np.random.default_rng(0)


def deep(*shape: int) -> np.ndarray:
    """Random 16-bit values with the ramp of the ends and of what rounds up and down."""
    found = RNG.integers(0, 65536, shape).astype(np.uint16)
    found.ravel()[:6] = [0, 128, 129, 255, 65406, 65535]
    return found


def scaled(values: np.ndarray, most: int = 65535) -> np.ndarray:
    return np.rint(values.astype(np.float64) * 255 / most).astype(np.uint8)


def write_png(file: Path, values: np.ndarray, kind: int) -> None:
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))


def write_tiff(
    file: Path, values: np.ndarray, order: str, *, photometric: int | None = None, kind: int = 1,
    extra: int | None = None,
) -> None:  # fmt: skip
    """An uncompressed TIFF of one strip; `kind` is 1 for unsigned, 2 signed, 3 floating."""
    (height, width), channels = values.shape[:2], 1 if values.ndim == 2 else values.shape[2]
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    bits = 8 * values.dtype.itemsize
    if photometric is None:
        photometric = 1 if channels == 1 else 2
    tags = [
        (256, "I", 1, width), (257, "I", 1, height), (258, "H", channels, bits), (259, "H", 1, 1),
        (262, "H", 1, photometric), (273, "I", 1, 0), (277, "H", 1, channels),
        (278, "I", 1, height), (279, "I", 1, len(data)),
        *([] if extra is None else [(338, "H", 1, extra)]), (339, "H", channels, kind),
    ]  # fmt: skip
    start = 8 + 2 + 12 * len(tags) + 4
    far = b""
    first = start + sum(2 * n for _, form, n, _ in tags if form == "H" and n > 2)
    entries = b""
    for tag, form, count, value in tags:
        packed = struct.pack(order + form * count, *[first if tag == 273 else value] * count)
        if len(packed) > 4:
            packed, far = struct.pack(order + "I", start + len(far)), far + packed
        code = {"H": 3, "I": 4}[form]
        entries += struct.pack(order + "HHI", tag, code, count) + packed.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    count = struct.pack(order + "H", len(tags))
    file.write_bytes(head + count + entries + bytes(4) + far + data)


def assert_pixels(file: Path, expected: np.ndarray) -> None:
    if expected.ndim == 2:
        np.testing.assert_array_equal(read_image(file, "L")[:, :, 0], expected)
        expected = np.repeat(expected[:, :, None], 3, 2)
    np.testing.assert_array_equal(read_image(file), expected[:, :, :3])


@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_png_of_16_bits(tmp_path: Path, kind: int, channels: int) -> None:
    values = deep(7, 9, channels)
    write_png(tmp_path / "x.png", values, kind)
    assert_pixels(tmp_path / "x.png", scaled(values[..., 0] if channels < 3 else values))


def test_a_ramp_is_not_clipped(tmp_path: Path) -> None:
    ramp = np.array([[0, 257, 21845, 65535]], np.uint16)
    write_png(tmp_path / "x.png", ramp, 0)
    assert read_image(tmp_path / "x.png", "L").ravel().tolist() == [0, 1, 85, 255]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_tiff_of_16_bits(tmp_path: Path, order: str, channels: int) -> None:
    values = deep(7, 9) if channels == 1 else deep(7, 9, channels)
    write_tiff(tmp_path / "x.tif", values, order, extra=2 if channels == 4 else None)
    assert_pixels(tmp_path / "x.tif", scaled(values))


def test_tiff_whose_zero_is_white_and_compressed_ones(tmp_path: Path) -> None:
    values = deep(7, 9)
    write_tiff(tmp_path / "x.tif", values, "<", photometric=0)
    assert_pixels(tmp_path / "x.tif", 255 - scaled(values))
    pytest.importorskip("PIL.features").check("libtiff") or pytest.skip("no libtiff")
    Image.fromarray(values).save(tmp_path / "y.tif", compression="tiff_deflate")
    assert_pixels(tmp_path / "y.tif", scaled(values))


@pytest.mark.parametrize("most", [300, 1023, 4095, 65535])
def test_pgm_by_its_largest_value(tmp_path: Path, most: int) -> None:
    values = RNG.integers(0, most + 1, (7, 9)).astype(np.uint16)
    head = f"P5 9 7 {most}\n".encode()
    (tmp_path / "x.pgm").write_bytes(head + values.astype(">u2").tobytes())
    found = read_image(tmp_path / "x.pgm", "L")[:, :, 0].astype(int)
    off = np.abs(found - values.astype(float) * 255 / most)
    assert off.max() <= 0.5 + 255 / 65535  # by way of 16 bits


@pytest.mark.parametrize(
    ("dtype", "kind", "message"),
    [
        (np.int32, 2, "32-bit or signed pixels"),
        (np.uint32, 1, "32-bit or signed pixels"),
        (np.int16, 2, "32-bit or signed pixels"),
        (np.float32, 3, "floating-point pixels"),
    ],
)
def test_pixels_without_a_scale_are_refused(
    tmp_path: Path, dtype: Any, kind: int, message: str
) -> None:
    write_tiff(tmp_path / "x.tif", np.zeros((4, 5), dtype), "<", kind=kind)
    with pytest.raises(
        BadImage, match=rf"x.tif: expected a readable image, got a broken one \({message}"
    ):
        read_image(tmp_path / "x.tif")


def test_other_forms(tmp_path: Path) -> None:
    colour = Image.fromarray(RNG.integers(0, 256, (6, 8, 3)).astype(np.uint8))
    grey, bits = colour.convert("L"), colour.convert("1")
    bits.save(tmp_path / "bits.png")
    assert_pixels(tmp_path / "bits.png", 255 * np.asarray(bits).astype(np.uint8))
    palette = grey.convert("P")
    palette.save(tmp_path / "clear.png", transparency=bytes([0, 128, 255]))
    assert_pixels(tmp_path / "clear.png", np.asarray(grey))
    clear = np.dstack([np.asarray(colour), np.zeros((6, 8), np.uint8)])
    Image.fromarray(clear).save(tmp_path / "alpha.png")
    assert_pixels(tmp_path / "alpha.png", np.asarray(colour))  # what is beneath
    frames = [grey.point(lambda v, i=i: (v + i) % 256) for i in range(3)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert_pixels(tmp_path / "moving.gif", np.asarray(grey))
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn, which torchvision does not make either
    colour.save(tmp_path / "turned.png", exif=turned)
    assert_pixels(tmp_path / "turned.png", np.asarray(colour))


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.bmp", "x.tif", "x.webp", "x.pgm"])
def test_files_that_are_cut_off(tmp_path: Path, name: str) -> None:
    values = RNG.integers(0, 256, (40, 40)).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    for part in (0, 3, len(content) // 2):
        (tmp_path / name).write_bytes(content[:part])
        with pytest.raises(BadImage, match=f"{name}: expected a readable image"):
            read_image(tmp_path / name)
