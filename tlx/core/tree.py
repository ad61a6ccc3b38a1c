"""Arithmetic on pytrees of parameters, and the names of their leaves."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tlx.core import checks
from tlx.core.types import Params


def names(tree: Any) -> tuple[str, ...]:
    """The name of each leaf in `jax.tree.leaves` order: its path, as "a/b/kernel".

    A trailing "/value" (the box of some frameworks' parameters) is dropped.

    >>> names({"head": {"kernel": 1.0, "bias": 2.0}, "scales": [3.0]})
    ('head/bias', 'head/kernel', 'scales/0')
    """
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    return tuple(
        jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")
        for path in paths
    )


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves by name, in `jax.tree.leaves` order."""
    return dict(zip(names(tree), jax.tree.leaves(tree), strict=True))


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts from leaves by name, the inverse of `named_leaves` for such trees.

    >>> nested({"a/b": 1, "a/c": 2})
    {'a': {'b': 1, 'c': 2}}
    """
    out: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *above, last = name.split("/")
        level = out
        for part in above:
            level = level.setdefault(part, {})
        level[last] = leaf
    return out


def map_named(fn: Any, tree: Any) -> Any:
    """`jax.tree.map` of `fn(name, leaf)`."""
    leaves, treedef = jax.tree.flatten(tree)
    return jax.tree.unflatten(treedef, map(fn, names(tree), leaves))


def accumulator(dtype: Any) -> Any:
    """The dtype in which sums over values of `dtype` are taken: float32 or more."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(dtype, jnp.float32)


def lerp(a: Params, b: Params, t: Float[Array, ""] | float) -> Params:
    """The point `(1 − t)·a + t·b`, leaf by leaf; exactly `a` at t = 0 and `b` at t = 1.

    Args:
      a: pytree of arrays.
      b: pytree of the same structure, shapes and dtypes (not checked here; see `paths.line`).
      t: scalar; below 0 or above 1 extrapolates.

    Returns:
      A pytree like `a`. Leaves that are not floating (counters) are `a`'s.

    Numerics: computed in float32 or more, rounded once to the leaf's dtype. Exact ends
    hold for finite leaves; a leaf that is infinite at one end gives NaN on the way.
    """

    def leaf(x: Any, y: Any) -> Any:
        if not checks.is_inexact(x):
            return x
        x, y = jnp.asarray(x), jnp.asarray(y)
        wide = accumulator(x.dtype)
        s = jnp.asarray(t, wide)
        return ((1 - s) * x.astype(wide) + s * y.astype(wide)).astype(x.dtype)

    return jax.tree.map(leaf, a, b)


def add(a: Params, b: Params, scale: Float[Array, ""] | float = 1.0) -> Params:
    """`a + scale·b`, leaf by leaf, computed in float32 or more; other leaves are `a`'s."""

    def leaf(x: Any, y: Any) -> Any:
        if not checks.is_inexact(x):
            return x
        x, y = jnp.asarray(x), jnp.asarray(y)
        wide = accumulator(x.dtype)
        return (x.astype(wide) + jnp.asarray(scale, wide) * y.astype(wide)).astype(x.dtype)

    return jax.tree.map(leaf, a, b)


def sub(a: Params, b: Params) -> Params:
    """`a − b`, leaf by leaf; leaves that are not floating are `a`'s."""
    return add(a, b, -1.0)


def dot(a: Params, b: Params) -> Float[Array, ""]:
    """The sum over all floating leaves of `a·b`: float32 (or wider) scalar, 0 if there are none."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    total = jnp.zeros((), jnp.float32)
    for x, y in pairs:
        if checks.is_inexact(x):
            wide = accumulator(jnp.asarray(x).dtype)
            part = jnp.sum(jnp.asarray(x).astype(wide) * jnp.asarray(y).astype(wide))
            with jax.numpy_dtype_promotion("standard"):
                total = total + part
    return total


def norm(a: Params) -> Float[Array, ""]:
    """The Euclidean norm over all floating leaves: float32 (or wider) scalar."""
    return jnp.sqrt(dot(a, a))


def stack(trees: Sequence[Params]) -> Params:
    """One pytree with a new leading axis over the given ones (copies them)."""
    if not trees:
        raise ValueError("expected at least one pytree to stack, got none")
    for i, other in enumerate(trees[1:], 1):
        checks.same_structure(trees[0], other, ("trees[0]", f"trees[{i}]"))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def count(tree: Params) -> int:
    """The number of scalars in all leaves, P."""
    return sum(int(np.prod(np.shape(leaf))) for leaf in jax.tree.leaves(tree))
