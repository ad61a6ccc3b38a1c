"""Inner products of leaves, scaled so that squares stay in the range of floats.

On the device each factor is divided by the power of two at its largest entry; the sums of leaves
are added on the host in float64, which holds any square of a float32. Where they are traced they
are added on the device, in units of the largest.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tlx.core.scale import NO_SCALE, times_power


def inner(scaled_x: tuple[Array, Array], scaled_y: tuple[Array, Array]) -> Float[Array, "2"]:
    """Σ x·y, of each its `unit_scale`, as a number and the exponent of its unit, a power of two."""
    (x, e), (y, f) = scaled_x, scaled_y
    return jnp.stack([jnp.sum(x * y), (e + f).astype(x.dtype)])


def in_float64(found: Any) -> Float[np.ndarray, "..."]:
    """Numbers from pairs [..., 2] of `inner`."""
    numbers, exponents = np.moveaxis(np.asarray(found, np.float64), -1, 0)
    return np.ldexp(numbers, exponents.astype(int))


def in_one_unit(found: Array) -> tuple[Float[Array, "..."], Int[Array, ""]]:
    """The numbers of pairs [..., 2] of `inner` over 2^(2·exponent), and that exponent."""
    numbers, exponents = found[..., 0], jax.lax.stop_gradient(found[..., 1]).astype(jnp.int32)
    unit = jnp.max(jnp.where(numbers == 0, NO_SCALE, exponents), initial=NO_SCALE) // 2
    return times_power(numbers, exponents - 2 * unit), unit
