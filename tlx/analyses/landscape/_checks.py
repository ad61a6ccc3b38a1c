"""Checks that several analyses share: of coordinates, and of parameters that are not finite."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tlx.core import tree
from tlx.core.types import Params


def vector(name: str, values: Any) -> Float[Array, " K"]:
    """The values as a vector of float32 or more, with at least one entry."""
    leaves = jax.tree.leaves(values)
    if leaves and all(isinstance(x, np.ndarray | np.integer | int) for x in leaves):
        values = np.asarray(values)
        if values.dtype.kind in "iu":  # those of 64 bits are other numbers on the device
            values = values.astype(np.float64)
    values = jnp.asarray(values)
    if jnp.iscomplexobj(values):
        raise TypeError(f"expected {name} as real numbers, got dtype {values.dtype}")
    if values.ndim != 1 or not values.size:
        raise ValueError(f"expected {name} as a vector [K] of numbers, got shape {values.shape}")
    if not jnp.issubdtype(values.dtype, jnp.floating):
        return values.astype(jnp.result_type(float))
    return values.astype(tree.accumulator(values.dtype))


def finite_vector(name: str, values: Any) -> Float[Array, " K"]:
    """`vector`, with an error for a NaN or an infinity (except under `jax.jit`)."""
    values = vector(name, values)
    if not isinstance(values, jax.core.Tracer) and not bool(jnp.isfinite(values).all()):
        raise ValueError(f"expected finite {name}, got {np.asarray(values).tolist()}")
    return values


def finite_params(models: Mapping[str, Params]) -> None:
    """Raises for a NaN or an infinity that is not the same in all models, naming every leaf.

    The models have one structure.
    """
    names = tree.names(next(iter(models.values())))
    found = jax.device_get(_finite(list(zip(*map(jax.tree.leaves, models.values()), strict=True))))
    lines = [
        f"  {name}: {leaf}"
        for leaf, of_models in zip(names, found, strict=True)
        for name, ok in zip(models, of_models, strict=True)
        if not ok
    ]
    if lines:
        raise ValueError(
            "expected parameters that are finite or the same in all models, got a NaN or an "
            "infinity in:\n" + "\n".join(lines) + "\nLeave out models that have diverged."
        )


@jax.jit
def _finite(leaves: list[tuple[Any, ...]]) -> list[list[Any]]:
    """Of each leaf, for each model, whether what moves is finite."""
    return [
        [jnp.isfinite(x).all() for x in tree.moving(*values)]
        if tree.is_inexact(values[0])
        else [True] * len(values)
        for values in leaves
    ]


@jax.jit
def rounding(params: Params) -> Float[Array, ""]:
    """The distance that rounding to the leaves' dtypes can cause: the norm of eps·|θ|."""

    def step(leaf: Any) -> Any:
        if not tree.is_inexact(leaf):
            return leaf
        numbers = tree.reals(leaf)
        eps = jnp.asarray(jnp.finfo(jnp.result_type(leaf)).eps, numbers.dtype)
        return jnp.where(jnp.isfinite(numbers), numbers, 0) * eps

    return tree.norm(jax.tree.map(step, params))
