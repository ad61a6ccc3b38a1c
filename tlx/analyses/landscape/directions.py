"""Random directions in parameter space: how the loss rises around one model, by slices.

With u and v from `random_direction`, the slice in one dimension is the line from `params` to
`tree.add(params, u)` (`landscape.line`), the slice in two dimensions the plane
`paths.plane(params, u, v)` (`planes.grid`); coordinates are in units of the directions.
"""

import functools
import zlib
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from tlx.core import checks, contracts, public, tree
from tlx.core.scale import times_power
from tlx.core.tree import unit_scale
from tlx.core.types import Params

__dir__ = public.names(__name__)

NORMALIZATIONS = ("filter", "layer")
"""The normalisations of `random_direction` besides None."""


def random_direction(
    key: Array,
    params: Params,
    *,
    normalization: Literal["filter", "layer"] | str | None = "filter",
    filter_axis: int = -1,
    min_axes: int = 2,
) -> Params:
    """A Gaussian direction, scaled to the parameters so that slices of nets can be compared.

    With d drawn from N(0, I) and θ the parameters:

    - "filter": each filter of d is scaled to the norm of that filter of θ,
      d_f ← d_f·‖θ_f‖ / ‖d_f‖.
    - "layer": the same for each entire leaf.
    - None: d as it is drawn.

    Scaling one layer of a relu net up and the next down does not change its function, nor the
    slice with either normalisation; without normalisation it changes the slice.

    Args:
      key: typed PRNG key. Each leaf has its own key, derived from its name.
      params: pytree of arrays.
      normalization: "filter", "layer" or None.
      filter_axis: the axis of a leaf that indexes its filters (or neurons): −1 for kernels
        [..., in, out] of Flax and Haiku, 0 for weights [out, in, ...] of Equinox.
      min_axes: leaves of fewer axes do not move (zero in the direction). By default these are
        biases and the scales and statistics of norms, as in the paper's figures; 0 moves all.
        A leaf of fewer than two axes is one filter.

    Returns:
      A pytree like `params`, of the same dtypes. A filter (or layer) of norm zero in `params`
      is also zero in the direction, under either normalisation, as are values that are not
      finite; of a complex number both parts are drawn. Leaves that are not floating are those of
      `params` and do not move when the direction is added.

    Raises:
      ValueError: at call, for another normalisation or a filter axis that a leaf lacks; and
        for a direction that is zero everywhere, naming the leaves and why (not under
        `jax.jit`, where values cannot be read).

    Numerics: float32 or more, rounded once to the leaf's dtype.

    Cost: a random number a parameter, and a few reads of the parameters.

    References: H. Li, Z. Xu, G. Taylor, C. Studer, T. Goldstein, Visualizing the loss
    landscape of neural nets, 2018, section 4.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from tlx.analyses import landscape
    >>> params = {"kernel": jnp.diag(jnp.array([1.0, 10.0, 0.0])), "bias": jnp.ones(3)}
    >>> direction = landscape.random_direction(jax.random.key(0), params)
    >>> print(jnp.linalg.norm(direction["kernel"], axis=0).round(3), direction["bias"])
    [ 1. 10.  0.] [0. 0. 0.]
    """
    contracts.typed_key(key)
    if normalization is not None and normalization not in NORMALIZATIONS:
        raise ValueError(checks.unknown("normalization", normalization, NORMALIZATIONS))
    for name, leaf in tree.named_leaves(params).items():
        axes = jnp.ndim(leaf)
        if normalization == "filter" and axes >= 2 and not -axes <= filter_axis < axes:
            raise ValueError(
                f"expected a filter_axis of leaf {name} with its {axes} axes, got {filter_axis}"
            )

    direction = _direction(key, params, normalization, filter_axis, min_axes)
    _check_moves(params, direction, min_axes)
    return direction


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _direction(
    key: Array, params: Params, normalization: str | None, filter_axis: int, min_axes: int
) -> Params:
    draw = functools.partial(_draw, key, normalization, filter_axis, min_axes)
    return tree.map_named(draw, params)


def _draw(
    key: Array, normalization: str | None, filter_axis: int, min_axes: int, name: str, value: Any
) -> Any:
    if not tree.is_inexact(value):
        return value
    value = jnp.asarray(value)
    if value.ndim < min_axes:
        return jnp.zeros_like(value)
    numbers = tree.reals(value)
    still = ~jnp.isfinite(numbers)
    own = jax.random.fold_in(key, zlib.crc32(name.encode()))
    drawn = jnp.where(still, 0, jax.random.normal(own, numbers.shape, numbers.dtype))
    if normalization is not None:
        by_filter = normalization == "filter" and value.ndim >= 2
        kept = filter_axis % value.ndim if by_filter else None
        axes = tuple(axis for axis in range(numbers.ndim) if axis != kept)
        size, length = _norm(jnp.where(still, 0, numbers), axes), _norm(drawn, axes)
        drawn = drawn * (size / jnp.where(length == 0, 1, length))
    return tree.rounded(drawn, value)


def _norm(value: Array, axes: tuple[int, ...]) -> Array:
    scaled, exponent = unit_scale(value)
    return times_power(jnp.sqrt(jnp.sum(jnp.square(scaled), axes, keepdims=True)), exponent)


def _check_moves(params: Params, direction: Params, min_axes: int) -> None:
    moving = tree.named_leaves(direction)
    floating = {name: x for name, x in moving.items() if tree.is_inexact(x)}
    if any(isinstance(x, jax.core.Tracer) or bool(jnp.any(x != 0)) for x in floating.values()):
        return
    why = [f"  {name}: {_why_still(x, min_axes)}" for name, x in moving.items()]
    raise ValueError(
        "expected a direction that moves a leaf, got zero everywhere:\n"
        + "\n".join(why)
        + "\nPass "
        "parameters with a kernel that is not zero, or min_axes=0 to move leaves of fewer axes too."
    )


def _why_still(leaf: Any, min_axes: int) -> str:
    if not tree.is_inexact(leaf):
        return f"{jnp.result_type(leaf)} does not move"
    if jnp.ndim(leaf) < min_axes:
        return f"{jnp.ndim(leaf)} axes, fewer than min_axes={min_axes}"
    return "norm zero in params"
