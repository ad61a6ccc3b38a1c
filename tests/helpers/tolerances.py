"""The one table of tolerances: relative error by dtype and how much is accumulated."""

import jax.numpy as jnp

RTOL = {
    "float64": 1e-12,
    "float32": 1e-5,
    "bfloat16": 2e-2,
}


def rtol(dtype: object) -> float:
    return RTOL[jnp.dtype(dtype).name]
