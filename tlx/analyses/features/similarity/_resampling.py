"""Permutations and subsets of examples: null distribution and interval of a prepared comparison."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tlx.analyses.features.similarity._comparison import Comparison
from tlx.core import contracts, intervals

SHARE = 0.8
"""The share of the examples in a subset.

Shares of 0.5 to 0.9 had the same coverage within 0.02 for measures that do not depend on n;
the nearer to 1, the less such a dependence matters.
"""

BLOCK = 2**24
"""The number of floats up to which permutations or subsets are computed together."""


def check(num_permutations: int, num_resamples: int, key: Any, confidence: float) -> None:
    """Raises for invalid options; the key is checked where it is needed.

    Raises:
      ValueError: for negative numbers or a confidence that is not between 0 and 1.
      TypeError: for a key that is not a typed one.
    """
    if min(num_permutations, num_resamples) < 0:
        raise ValueError(
            "expected numbers of permutations and resamples of at least 0, got "
            f"{num_permutations} and {num_resamples}"
        )
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, got {confidence}")
    if num_permutations + num_resamples > 0:
        contracts.typed_key(key)


def keys(key: Array) -> tuple[Array, Array]:
    """The keys of the permutations and of the subsets."""
    return jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)


def order(key: Array, number: Array | int, n: int, positions: int = 1) -> Int[Array, " nP"]:
    """The rows of all n examples in the order of one draw; the rows of an example stay together."""
    examples = jax.random.permutation(jax.random.fold_in(key, number), n)
    return (examples[:, None] * positions + jnp.arange(positions)[None, :]).reshape(-1)


@functools.partial(jax.jit, static_argnums=(0, 1, 2), static_argnames="positions")
def null(
    comparison: Comparison,
    num: int,
    n: int,
    prepared_x: Any,
    prepared_y: Any,
    key: Array,
    *,
    positions: int = 1,
) -> Float[Array, " R"]:
    """The measure with the examples of y permuted, each with `positions` rows."""

    def one(number: Array) -> Array:
        rows = order(key, number, n, positions)
        return comparison.compare(prepared_x, comparison.reorder(prepared_y, rows))

    return blocked(one, num, floats(prepared_y))


def subset_size(comparison: Comparison, n: int) -> int:
    """The size m of a subset; n only where no example can be left out."""
    return min(n, max(comparison.least, min(round(SHARE * n), n - 1)))


def prepared_shape(comparison: Comparison, subset: jax.ShapeDtypeStruct) -> Any:
    """The shapes of a prepared subset.

    Raises:
      ValueError: for a measure that is tied to all examples and so has no subsets.
    """
    try:
        return jax.eval_shape(comparison.prepare, subset)
    except ValueError as error:
        raise ValueError(
            f"expected a measure that applies to subsets of the examples, got {comparison.name} "
            f"({error}); pass num_resamples=0"
        ) from error


def blocked(one: Any, num: int, size: int) -> Array:
    """`one` of 0 … num − 1, as many of this size together as `BLOCK` allows."""
    if not num:
        return jnp.zeros(0, jnp.result_type(float))
    calls = -(-num // max(1, BLOCK // size))
    width = -(
        -num // calls
    )  # calls of one shape, so that it is compiled once; a few results are unused
    return jax.lax.map(one, jnp.arange(calls * width), batch_size=width)[:num]


def floats(tree: Any) -> int:
    """The number of entries in a tree of arrays, at least 1."""
    return 1 + sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@functools.partial(jax.jit, static_argnums=2)
def against(null: Array, value: Array, higher: bool) -> tuple[Array, Array, Array, Array]:
    """Mean and standard deviation of the null, z and the p-value; NaN without permutations."""
    num = len(null)
    if not num:
        return (jnp.full((), jnp.nan, value.dtype),) * 4
    mean = null.mean()
    std = jnp.where(num > 1, null.std(ddof=min(1, num - 1)), jnp.nan)
    rounding = 32 * float(jnp.finfo(value.dtype).eps) * jnp.abs(value)
    as_similar = null >= value - rounding if higher else null <= value + rounding
    p_value = (1 + as_similar.sum()).astype(value.dtype) / (1 + num)
    z = (value - mean) / jnp.where(std > rounding, std, jnp.nan)
    undefined = jnp.isnan(mean) | jnp.isnan(value)
    return mean, std, z, jnp.where(undefined, jnp.nan, p_value)


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def interval(
    subsets: Float[Array, "R ..."],
    value: Float[Array, "..."],
    sizes: tuple[int, int],
    confidence: float,
    low: float,
    high: float,
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """The interval within low … high, from values of subsets of m of n examples; sizes (n, m).

    NaN without subsets or if no example can be left out; also if all subsets have the same value
    (to the rounding of an arccos, the square root of eps) but all examples another one: with so
    few examples the measure is at an end of its range for any features, and its spread is
    meaningless.
    """
    n, m = sizes
    if not len(subsets) or m == n:
        return (jnp.full_like(value, jnp.nan),) * 2
    mean = subsets.mean(0)
    one_value = 4 * float(jnp.finfo(value.dtype).eps) ** 0.5
    stuck = (jnp.ptp(subsets, 0) <= one_value) & (jnp.abs(value - mean) > one_value)
    spread = (subsets - mean[None]) * math.sqrt(m / (n - m))
    ends = intervals.percentile_interval(spread, confidence)
    lower, upper = (jnp.where(stuck, jnp.nan, value + end) for end in ends)
    return jnp.maximum(lower, jnp.minimum(low, value)), jnp.minimum(upper, jnp.maximum(high, value))
