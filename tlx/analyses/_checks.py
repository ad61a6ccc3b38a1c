"""Checks that several analyses share: of coordinates, and of parameters that are not finite."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tlx.core import checks, tree
from tlx.core.types import Params


def vector(name: str, values: Any) -> Float[Array, " K"]:
    """The values as a vector of float32 or more, with at least one entry."""
    values = jnp.asarray(values)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"expected {name} as a vector [K] of numbers, got shape {values.shape}")
    if not jnp.issubdtype(values.dtype, jnp.floating):
        return values.astype(jnp.result_type(float))
    return values.astype(tree.accumulator(values.dtype))


def finite_vector(name: str, values: Any) -> Float[Array, " K"]:
    """`vector`, with an error for a NaN or an infinity (but under `jax.jit`)."""
    values = vector(name, values)
    if not isinstance(values, jax.core.Tracer) and not bool(jnp.isfinite(values).all()):
        raise ValueError(f"expected finite {name}, got {np.asarray(values).tolist()}")
    return values


def finite_params(models: Mapping[str, Params]) -> None:
    """Raises if a model has a NaN or an infinity, naming every such leaf."""
    lines = [
        f"  {name}: {leaf}"
        for name, params in models.items()
        for leaf, value in tree.named_leaves(params).items()
        if checks.is_inexact(value) and not bool(jnp.isfinite(value).all())
    ]
    if lines:
        raise ValueError(
            "expected finite parameters, but these leaves hold a NaN or an infinity:\n"
            + "\n".join(lines)
        )


@jax.jit
def rounding(params: Params) -> Float[Array, ""]:
    """The distance that rounding to the leaves' dtypes can make: the norm of eps·|θ|."""

    def step(leaf: Any) -> Any:
        if not checks.is_inexact(leaf):
            return leaf
        wide = tree.accumulator(leaf.dtype)
        return jnp.abs(leaf).astype(wide) * jnp.asarray(jnp.finfo(leaf.dtype).eps, wide)

    return tree.norm(jax.tree.map(step, params))
