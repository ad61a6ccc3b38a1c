"""Powers of two as units, so that squares and products stay in the range of floats."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tlx.core import public

__dir__ = public.names(__name__)

NO_SCALE = -(2**20)
"""The exponent of an array of zeros: below that of any number."""


def power_of_two(exponent: Int[Array, " L"]) -> Float[Array, " L"]:
    """2^exponent, exact; zero far below the smallest number."""
    return jnp.ldexp(jnp.ones(exponent.shape), jnp.maximum(exponent, -2000))
