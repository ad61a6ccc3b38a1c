import jax
import numpy as np
import pytest

from tlx.core import scale


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_powers_of_two_are_those_of_numpy(dtype):
    info = np.finfo(dtype)
    rng = np.random.default_rng(0)
    size = 2 * info.maxexp  # exponents beyond those of the dtype, whose halves are not
    x = rng.choice([-1, 1], size) * np.ldexp(rng.uniform(0.5, 1, size), rng.integers(-9, 9, size))
    x, exponents = x.astype(dtype), np.arange(size) - info.maxexp + 1
    with jax.enable_x64(True), np.errstate(over="ignore", under="ignore"):
        got = np.asarray(jax.jit(scale.times_power)(x, exponents.astype(np.int32)))
        expected = np.ldexp(x, exponents)
    assert got.dtype == dtype
    kept = np.abs(expected) >= info.tiny  # what is smaller may be zero
    np.testing.assert_array_equal(got[kept], expected[kept])
    assert (np.abs(got[~kept]) < info.tiny).all()


def test_far_below_the_smallest_number_is_zero():
    found = scale.power_of_two(np.int32([scale.NO_SCALE, -400, 0, 3]))
    np.testing.assert_array_equal(found, [0, 0, 1, 8])
