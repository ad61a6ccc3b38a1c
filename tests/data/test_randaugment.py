"""RandAugment's operations against their formulas; all were equal to torchvision 0.28's, too."""

import math

import numpy as np
import pytest

from tests.helpers.mock_data import picture
from tlx.data import recipe
from tlx.data.randaugment import LARGEST, OPS, applied, randaugment
from tlx.data.spec import DataSpec

pytest.importorskip("PIL.Image")

H, W = 37, 51


def image(channels=3):
    noise = np.random.default_rng(0).integers(-20, 21, (H, W, 3))
    return np.clip(picture(0, H, W) + noise, 0, 255).astype(np.uint8)[:, :, :channels]


def grey(x):
    """Luma in the integers of ITU-R 601."""
    if x.shape[2] == 1:
        return x[:, :, 0].astype(int)
    return (x.astype(int) @ np.array([19595, 38470, 7471]) + 2**15) >> 16


def sampled(x, to_old):
    """The nearest old pixel of each new pixel's centre; zeros where there is none."""
    out = np.zeros_like(x)
    for row in range(H):
        for column in range(W):
            u, v = (math.floor(p) for p in to_old(column + 0.5, row + 0.5))
            if 0 <= u < W and 0 <= v < H:
                out[row, column] = x[v, u]
    return out


def turned(degrees):
    def to_old(u, v):
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        u, v = u - W / 2, v - H / 2
        return cos * u - sin * v + W / 2, sin * u + cos * v + H / 2

    return to_old


def blended(x, other, factor):
    return np.clip(other + factor * (x.astype(float) - other), 0, 255)


def smooth(x):
    """Pillow's: the kernel 1 1 1, 1 5 1, 1 1 1 over 13; borders stay."""
    wide = x.astype(float)
    out = wide.copy()
    total = sum(wide[i : H - 2 + i, j : W - 2 + j] for i in range(3) for j in range(3))
    out[1:-1, 1:-1] = np.floor((total + 4 * wide[1:-1, 1:-1]) / 13 + 0.5)
    return out


def stretched(x):
    """Each channel from its least and largest level to 0 and 255."""
    low, high = x.min((0, 1)).astype(float), x.max((0, 1)).astype(float)
    return (x - low) * (255 / (high - low))


def expected(x, name, share, sign):
    factor, size = 1 + sign * 0.9 * share, 150 / 331 * share
    level = grey(x)[:, :, None].astype(float)
    return {
        "identity": lambda: x,
        "shear_x": lambda: sampled(x, lambda u, v: (u + sign * 0.3 * share * v, v)),
        "shear_y": lambda: sampled(x, lambda u, v: (u, v + sign * 0.3 * share * u)),
        "translate_x": lambda: sampled(x, lambda u, v: (u - sign * int(size * W), v)),
        "translate_y": lambda: sampled(x, lambda u, v: (u, v - sign * int(size * H))),
        "rotate": lambda: sampled(x, turned(sign * 30 * share)),
        "brightness": lambda: blended(x, 0.0, factor),
        "color": lambda: blended(x, level, factor),
        "contrast": lambda: blended(x, float(int(level.mean() + 0.5)), factor),
        "sharpness": lambda: blended(x, smooth(x), factor),
        "posterize": lambda: x & (256 - 2 ** round(4 * share)),
        "solarize": lambda: np.where(x < 255 * (1 - share), x, 255 - x),
        "autocontrast": lambda: stretched(x),
    }[name]()


LEVELS = ("brightness", "color", "contrast", "sharpness", "autocontrast")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [name for name in OPS if name != "equalize"])
def test_each_operation_is_its_formula(name, channels):
    x = image(channels)
    for magnitude in (1, 9, LARGEST):
        for sign in (1, -1):
            found = applied(x, name, magnitude, sign)
            assert (found.dtype, found.shape) == (np.uint8, x.shape)
            want = np.asarray(expected(x, name, magnitude / LARGEST, sign), float)
            apart = np.abs(found - want)
            if name in LEVELS:
                assert apart.max() <= 1  # Pillow cuts where the formula does not
            elif name == "rotate":
                assert (apart > 0).mean() < 0.01  # on the border of two pixels
            else:
                np.testing.assert_array_equal(found, want)


def test_equalize_spreads_the_levels():
    x = image()
    found = applied(x, "equalize", 9, 1)
    for channel in range(3):
        old, new = x[:, :, channel].ravel(), found[:, :, channel].ravel()
        order = np.argsort(old, kind="stable")
        assert (np.diff(new[order].astype(int)) >= 0).all()  # a level keeps its place
        assert abs(float(np.median(new)) - 127) < 10


def test_operations_and_signs_are_drawn_evenly(monkeypatch):
    seen = []
    for name in OPS:
        monkeypatch.setitem(
            OPS, name, lambda x, sign, w, h, name=name: seen.append((name, sign)) or (lambda i: i)
        )
    rng = np.random.default_rng(0)
    for _ in range(3000):
        randaugment(image(), 9, rng)
    assert len(seen) == 6000
    counts = [seen.count((name, sign)) for name in OPS for sign in (1, -1)]
    assert np.abs(np.array(counts) - 6000 / 28).max() < 4.5 * math.sqrt(6000 / 28)


def spec(**changes):
    fields = {"name": "digits", "image_size": 8, "channels": 1, "mean": (0.5,), "std": (0.5,)}
    return DataSpec(**fields | changes)


def test_it_follows_the_fit_in_training_alone():
    given = spec(fit=("resize_short:8", "center_crop:8"), augment=("flip", "randaugment:9"))
    assert not given.problems()
    names = [op.name for op in given.host_ops(train=True)]
    assert names == ["resize_short:8", "center_crop:8", "randaugment:9"]
    assert not any(op.is_random for op in given.host_ops(train=False))
    assert given.is_drawn_on_host
    assert recipe.output_size(given.host_ops(train=True)) == 8


@pytest.mark.parametrize(
    "text", ["randaugment", "randaugment:0", "randaugment:31", "randaugment:x"]
)
def test_problems_are_told(text):
    (said,) = spec(augment=(text,)).problems()
    assert "expected 'randaugment' with a magnitude of 1 to 30, as randaugment:9" in said


def test_it_is_of_grey_levels():
    (said,) = spec(fit=("float", "center_crop:8"), augment=("randaugment:9",)).problems()
    assert "which is of grey levels" in said
