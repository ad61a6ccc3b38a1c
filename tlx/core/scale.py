"""Powers of two as units, so that squares and products stay in the range of floats."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tlx.core import public

__dir__ = public.names(__name__)

NO_SCALE = -(2**20)
"""The exponent of an array of zeros: below that of any number."""


def power_of_two(exponent: Int[Array, " L"]) -> Float[Array, " L"]:
    """2^exponent, exact; zero far below the smallest number."""
    return times_power(jnp.ones(exponent.shape), exponent)


def times_power(x: Float[Array, "..."], exponent: Int[Array, "..."]) -> Float[Array, "..."]:
    """x·2^exponent, as of `jnp.ldexp`, which takes twice the time to compile.

    For finite x. In two steps, as 2^exponent itself may be no number of x's dtype where the
    product is one.
    """
    half = exponent >> 1
    return x * _normal_power(half, x.dtype) * _normal_power(exponent - half, x.dtype)


def _normal_power(exponent: Int[Array, "..."], dtype: Any) -> Float[Array, "..."]:
    """2^exponent from its bits; 0 below the normal numbers, the largest power above them."""
    info = jnp.finfo(dtype)
    bits = jnp.dtype(f"int{info.bits}")
    field = jnp.clip(exponent.astype(bits) - (info.minexp - 1), 0, 2 * (info.maxexp - 1))
    return jax.lax.bitcast_convert_type(field << info.nmant, dtype)
