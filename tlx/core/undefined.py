"""Undefined results: NaN by contract, which `jax_debug_nans` must not report as an error.

The checks stay on where a model runs, so that a NaN in the model is still reported.
"""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from tlx.core import public

__dir__ = public.names(__name__)

P = ParamSpec("P")
R = TypeVar("R")


def allowed(fn: Callable[P, R]) -> Callable[P, R]:
    """The function, with NaN allowed in its results even under `jax_debug_nans`.

    For functions that run no model: features, losses or parameters in, a number out.
    """

    @functools.wraps(fn)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.debug_nans(False):
            return fn(*args, **kwargs)

    return wrapped


@allowed
def like(x: Array) -> Array:
    """NaN in the shape and dtype of an array."""
    return jnp.full_like(x, np.nan)


@allowed
def array(values: Any, dtype: Any = float) -> Array:
    """Values from the host, NaN among them, as an array."""
    return jnp.asarray(values, dtype)
