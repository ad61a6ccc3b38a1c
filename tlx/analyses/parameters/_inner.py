"""Inner products of leaves, whose squares would leave the range of floats before they do.

On the device each factor is divided by the power of two at its largest entry; where the sums of
leaves meet, on the host, they are numbers of float64, which hold any square of a float32.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tlx.core.tree import unit_scale


def inner(x: Array, y: Array) -> Float[Array, "2"]:
    """Σ x·y as a number and the exponent of its unit, a power of two."""
    (x, e), (y, f) = unit_scale(x), unit_scale(y)
    return jnp.stack([jnp.sum(x * y), (e + f).astype(x.dtype)])


def in_float64(found: Any) -> Float[np.ndarray, "..."]:
    """Numbers from pairs [..., 2] of `inner`."""
    numbers, exponents = np.moveaxis(np.asarray(found, np.float64), -1, 0)
    return np.ldexp(numbers, exponents.astype(int))
