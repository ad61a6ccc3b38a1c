"""Features of two sets on the same examples."""

import numpy as np


def reference_input():
    """That of tests/golden/similarity.json."""
    rng = np.random.RandomState(1337)
    x, noise = rng.randn(100, 10), rng.randn(100, 10)
    return x, noise + x


def correlated(n, dx, dy, seed=0):
    """Features with a spectrum, of which half are shared."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, 3))
    x = shared @ rng.standard_normal((3, dx)) + rng.standard_normal((n, dx))
    y = shared @ rng.standard_normal((3, dy)) + rng.standard_normal((n, dy))
    return x, y
