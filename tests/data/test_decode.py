"""Fitting images: against jax.image.resize and by hand."""

import jax
import numpy as np
import pytest

from tlx.data.decode import fit, resize_weights


@pytest.mark.parametrize(("old", "new"), [(8, 32), (28, 32), (32, 28), (50, 7), (5, 5), (1, 4)])
def test_resize_agrees_with_jax(old, new):
    image = np.random.default_rng(0).integers(0, 256, (3, old, old, 2)).astype(np.float32)
    weights = resize_weights(old, new)
    ours = np.einsum("ij,bjkc,lk->bilc", weights, image, weights)
    theirs = jax.image.resize(image, (3, new, new, 2), "bilinear", antialias=True)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_fit_rounds_to_uint8_and_does_not_depend_on_the_batch():
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1)).astype(np.uint8)
    together = fit(images, 32, 1)
    assert together.dtype == np.uint8
    assert together.shape == (5, 32, 32, 1)
    for image, fitted in zip(images, together, strict=True):
        np.testing.assert_array_equal(fit(image, 32, 1), fitted)
    assert fit(images[:0], 32, 1).shape == (0, 32, 32, 1)


def test_fit_of_the_right_size_is_the_image_itself():
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    np.testing.assert_array_equal(fit(image, 4, 3), image)


def test_fit_keeps_constants_and_cuts_the_centre():
    assert (fit(np.full((9, 5, 3), 77, np.uint8), 13, 3) == 77).all()
    wide = np.zeros((4, 8, 1), np.uint8)
    wide[:, 2:6] = 200
    assert (fit(wide, 4, 1) == 200).all()


def test_fit_changes_channels():
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    np.testing.assert_array_equal(fit(grey, 4, 3), np.repeat(grey, 3, -1))
    np.testing.assert_array_equal(fit(np.repeat(grey, 3, -1), 4, 1), grey)
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 100
    assert (fit(red, 2, 1) == 30).all()


def test_fit_says_what_came():
    with pytest.raises(ValueError, match=r"expected uint8 images .* got float32 \(4, 4, 1\)"):
        fit(np.zeros((4, 4, 1), np.float32), 4, 1)
    with pytest.raises(ValueError, match=r"1 or 3 channels, got uint8 \(4, 4, 4\)"):
        fit(np.zeros((4, 4, 4), np.uint8), 4, 1)
