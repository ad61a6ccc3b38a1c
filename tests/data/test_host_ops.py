"""Operations on decoded images against plain twins written from their definitions."""

import math

import numpy as np
import pytest

from tests.helpers.mock_data import picture
from tlx.data import host_ops, recipe

Image = pytest.importorskip("PIL.Image")

SHAPES = [(37, 51), (51, 37), (40, 40), (64, 9)]


def image(shape, channels=3, seed=0):
    noise = np.random.default_rng(seed).integers(-20, 21, (*shape, 3))
    values = np.clip(picture(seed, *shape) + noise, 0, 255).astype(np.uint8)
    return values[:, :, :channels]


def run(text, values, rng=None):
    return recipe.run([recipe.parse(text)], values, rng)


def triangle(old, new):
    """Pillow's bilinear weights in float64: a triangle as wide as the shrinking, cut at borders."""
    scale = max(old / new, 1.0)
    centres = (np.arange(new) + 0.5) * old / new
    distance = np.abs(np.arange(old)[None, :] + 0.5 - centres[:, None]) / scale
    weights = np.maximum(0, 1 - distance)
    return weights / weights.sum(1, keepdims=True)


def resized(values, height, width):
    rows = triangle(values.shape[0], height)
    columns = triangle(values.shape[1], width)
    return np.einsum("hi,wj,ijc->hwc", rows, columns, values.astype(np.float64))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_resize_short_is_antialiased_and_rounds_the_longer_side_down(shape, channels):
    values = image(shape, channels)
    out = run("resize_short:16", values)
    short, long = min(shape), max(shape)
    assert sorted(out.shape[:2]) == [16, int(16 * long / short)]
    assert (out.shape[0] <= out.shape[1]) == (shape[0] <= shape[1])
    # Pillow rounds between its two passes
    np.testing.assert_allclose(out, resized(values, *out.shape[:2]), atol=1.1)
    np.testing.assert_array_equal(run(f"resize_short:{short}", values), values)


@pytest.mark.parametrize(
    ("shape", "size", "top", "left"),
    [((7, 10), 4, 2, 3), ((9, 4), 4, 2, 0), ((11, 7), 4, 4, 2)],
)
def test_center_crop_rounds_half_to_even(shape, size, top, left):
    values = image(shape)
    out = run(f"center_crop:{size}", values)
    np.testing.assert_array_equal(out, values[top : top + size, left : left + size])


def test_center_crop_of_a_smaller_image_brings_zeros():
    values = image((3, 6))
    out = run("center_crop:6", values)
    np.testing.assert_array_equal(out[1:4], values)
    assert not out[:1].any()
    assert not out[4:].any()


def test_resized_crop_is_a_part_resized():
    values = image((40, 57))
    box = host_ops.crop_box(40, 57, np.random.default_rng(3))
    top, left, height, width = box
    part = values[top : top + height, left : left + width]
    out = run("resized_crop:12", values, np.random.default_rng(3))
    np.testing.assert_allclose(out, resized(part, 12, 12), atol=1.1)


def test_law_of_the_parts():
    rng = np.random.default_rng(0)
    boxes = np.array([host_ops.crop_box(300, 400, rng) for _ in range(4000)])
    top, left, height, width = boxes.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 300).all()
    assert (left + width <= 400).all()
    share, ratio = height * width / 120_000, width / height
    assert share.min() > 0.079
    assert 0.74 < ratio.min() < ratio.max() < 1.35
    # a share s fits where 4s/3 <= ratio <= 4/(3s), so large ones seldom do
    s = np.linspace(0.08, 1, 2000)
    fits = np.log(np.minimum(4 / 3, 4 / (3 * s))) - np.log(np.maximum(3 / 4, 4 * s / 3))
    assert abs(share.mean() - np.average(s, weights=fits)) < 0.012
    small = share < 0.4  # these always fit: uniform in area and in log ratio
    assert abs(share[small].mean() - 0.24) < 0.01
    assert abs(np.log(ratio[small]).mean()) < 0.02


@pytest.mark.parametrize(
    ("shape", "expected"), [((100, 10), (43, 0, 13, 10)), ((10, 100), (0, 43, 10, 13))]
)
def test_narrow_images_fall_back_to_the_centre(shape, expected):
    class Whole:  # draws the whole area each time, which never fits
        def uniform(self, low, high):
            return high if high == 1.0 else 0.0

    assert host_ops.crop_box(*shape, Whole()) == expected


def test_affine_takes_the_nearest_pixel_of_the_inverse_map():
    values = image((33, 47))
    state = np.random.default_rng(5)
    angle = state.uniform(-15, 15)
    x, y = (round(state.uniform(-0.05 * n, 0.05 * n)) for n in (47, 33))
    zoom = state.uniform(0.95, 1.05)
    out = run("affine", values, np.random.default_rng(5))
    # forward: about the centre, turned and scaled, then shifted; solved for the old place
    turn = math.radians(angle)
    matrix = zoom * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    column, row = np.meshgrid(np.arange(47) + 0.5, np.arange(33) + 0.5)
    new = np.stack([column - 23.5 - x, row - 16.5 - y])
    old = (
        np.einsum("ij,jhw->ihw", np.linalg.inv(matrix), new) + np.array([23.5, 16.5])[:, None, None]
    )
    c, r = np.floor(old).astype(int)
    inside = (c >= 0) & (c < 47) & (r >= 0) & (r < 33)
    expected = np.where(inside[..., None], values[r.clip(0, 32), c.clip(0, 46)], 128)
    same = (out == expected).all(-1).mean()
    assert same > 0.99  # Pillow's fixed point puts a place on a border to the other side
    assert (out[~inside] == 128).mean() > 0.9


def test_equalize():
    values = image((20, 30), channels=1) // 2 + 40
    flat = values.ravel().astype(int)
    darkest = flat.min()
    rest = np.count_nonzero(flat > darkest)
    for value in np.unique(flat):
        expected = 255 * np.count_nonzero((flat > darkest) & (flat <= value)) / rest
        found = run("equalize", values)[values == value]
        assert abs(found.astype(float) - expected).max() <= 0.5 + 1e-4
    one = np.full((4, 4, 1), 7, np.uint8)
    np.testing.assert_array_equal(run("equalize", one), one)
    with pytest.raises(ValueError, match="grey images for equalize, got 3 channels"):
        run("equalize", image((4, 4)))


@pytest.mark.parametrize("shape", SHAPES)
def test_resize_long_is_between_four_pixels(shape):
    values = image(shape, channels=1)
    out = run("resize_long:20", values)
    ratio = max(shape) / min(shape)
    assert sorted(out.shape[:2]) == sorted([20, round(20 / ratio)])
    for i, j in np.ndindex(out.shape[:2]):
        y = np.clip((i + 0.5) * shape[0] / out.shape[0] - 0.5, 0, shape[0] - 1)
        x = np.clip((j + 0.5) * shape[1] / out.shape[1] - 0.5, 0, shape[1] - 1)
        total = 0.0
        for u, v in np.ndindex(2, 2):
            r, c = min(int(y) + u, shape[0] - 1), min(int(x) + v, shape[1] - 1)
            weight = (y - int(y) if u else 1 - y + int(y)) * (x - int(x) if v else 1 - x + int(x))
            total += weight * values[r, c, 0]
        assert abs(out[i, j, 0] - total) <= 0.5 + 1e-3


def test_pad_is_below_and_to_the_right():
    values = image((5, 8))
    out = run("pad:9", values)
    np.testing.assert_array_equal(out[:5, :8], values)
    assert (out[5:] == 128).all()
    assert (out[:, 8:] == 128).all()
    with pytest.raises(
        ValueError, match="at most 6x6 for pad:6, got 5x8; put resize_long:6 before it"
    ):
        run("pad:6", values)


def test_blur():
    values = image((7, 9))
    wide = np.pad(values, ((1, 1), (1, 1), (0, 0)), mode="reflect").astype(int)
    weights = np.outer([1, 2, 1], [1, 2, 1])
    out = run("blur", values)
    for i, j in np.ndindex(7, 9):
        total = np.einsum("uv,uvc->c", weights, wide[i : i + 3, j : j + 3]) / 16
        np.testing.assert_array_equal(out[i, j], np.floor(total + 0.5))
    assert run("blur", values[:1, :1]).shape == (1, 1, 3)


@pytest.mark.parametrize("shape", SHAPES)
def test_in_float_nothing_is_rounded(shape):
    names = ("resize_long:20", "pad:20", "blur")
    values = image(shape, channels=1)
    x = values.astype(np.float64)[:, :, 0]
    height, width = (max(1, round(20 * n / max(shape))) for n in shape)
    rows, columns = (weights(*n) for n in ((shape[0], height), (shape[1], width)))
    x = np.pad(rows @ x @ columns.T, ((0, 20 - height), (0, 20 - width)), constant_values=128)
    wide = np.pad(x, 1, mode="reflect")
    taps = [
        (wide[u : u + 20, v : v + 20], 1 / 16 * 2 ** ((u == 1) + (v == 1)))
        for u, v in np.ndindex(3, 3)
    ]
    expected = sum(part * weight for part, weight in taps)
    out = recipe.run(map(recipe.parse, ("float", *names)), values)
    assert out.dtype == np.float32
    np.testing.assert_allclose(255 * out[:, :, 0], expected, atol=1e-4)
    rounded = recipe.run(map(recipe.parse, names), values)
    assert rounded.dtype == np.uint8
    np.testing.assert_allclose(rounded, 255 * out, atol=1.01)


def weights(old, new):
    """Between the two nearest, [new, old]."""
    places = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(old)))


def test_size_that_is_left():
    def size(*names):
        return recipe.output_size(map(recipe.parse, names))

    assert size("resize_short:256", "center_crop:224", "blur") == 224
    assert size("center_crop:224", "resize_long:100") is None
    assert size() is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crop:2", "unknown operation on decoded images 'crop'"),
        ("pad", "expected 'pad' with a size of at least 1, as pad:224, got 'pad'"),
        ("pad:0", "expected 'pad' with a size of at least 1, as pad:224, got 'pad:0'"),
        ("blur:3", "expected 'blur' without a size, got 'blur:3'"),
    ],
)
def test_names_that_are_none(text, message):
    with pytest.raises(ValueError, match=message):
        recipe.parse(text)


def test_images_of_another_kind():
    with pytest.raises(ValueError, match=r"expected a uint8 image .* got float64 \(4, 4, 3\)"):
        recipe.run([], np.zeros((4, 4, 3)))
