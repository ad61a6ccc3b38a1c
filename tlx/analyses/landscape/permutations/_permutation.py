"""The action of permutations on parameters, and the check that the function stays the same."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tlx.analyses.landscape.permutations._symmetry import Factor, Group, Permutations, Symmetry
from tlx.core import graph, host, tree
from tlx.core.types import ApplyFn, Params


def permute_leaf(
    symmetry: Symmetry,
    permutations: Mapping[str, Any],
    axes: tuple[tuple[Factor, ...], ...],
    leaf: Any,
) -> Any:
    """A leaf with each of its factors permuted; groups without a permutation stay."""
    flat = [factor for axis in axes for factor in axis]
    if not any(factor.group in permutations for factor in flat):
        return leaf
    xp: Any = np if isinstance(leaf, np.ndarray) else jnp
    value = xp.asarray(leaf).reshape([factor.size for factor in flat])
    # outer groups first: a nested one's rows are by the new place of its outer unit
    for nested in (False, True):
        for i, factor in enumerate(flat):
            if factor.group not in permutations:
                continue
            group = symmetry.groups[str(factor.group)]
            if (group.within is not None) == nested:
                outer = outer_of(flat, i, group.within)
                value = _take(xp, value, i, np.asarray(permutations[group.name]), outer)
    return value.reshape(np.shape(leaf))


def permuted(symmetry: Symmetry, permutations: Mapping[str, Any], params: Params) -> Params:
    """The parameters in a new order of units; see `alignment.apply_permutation`."""
    return tree.map_named(
        lambda name, leaf: permute_leaf(symmetry, permutations, symmetry.leaves[name], leaf), params
    )


def outer_of(flat: Sequence[Factor], i: int, within: str | None) -> int | None:
    """Where the outer group of factor i is: the nearest before it, else the nearest."""
    if within is None:
        return None
    places = [j for j, factor in enumerate(flat) if factor.group == within]
    before = [j for j in places if j < i]
    return before[-1] if before else places[0]


def _take(xp: Any, value: Any, i: int, order: np.ndarray, outer: int | None) -> Any:
    if outer is None:
        return xp.take(value, order, axis=i)
    index = order if outer < i else order.T
    shape = [1] * value.ndim
    shape[outer], shape[i] = value.shape[outer], value.shape[i]
    return xp.take_along_axis(value, index.reshape(shape), axis=i)


def orders(symmetry: Symmetry, rng: np.random.Generator | None = None) -> Permutations:
    """The identity, or permutations drawn at random."""
    out: Permutations = {}
    for group in symmetry.groups.values():
        shape = _order_shape(symmetry, group)
        rows = np.broadcast_to(np.arange(group.size, dtype=np.int32), shape)
        out[group.name] = rows.copy() if rng is None else rng.permuted(rows, axis=-1)
    return out


def _order_shape(symmetry: Symmetry, group: Group) -> tuple[int, ...]:
    rows = () if group.within is None else (symmetry.groups[group.within].size,)
    return (*rows, group.size)


def check_order(symmetry: Symmetry, name: str, order: np.ndarray) -> None:
    """Raises ValueError unless an array is a permutation for a group."""
    group = symmetry.groups[name]
    shape = _order_shape(symmetry, group)
    whole = np.issubdtype(order.dtype, np.integer)
    if not whole or order.shape != shape or (np.sort(order, -1) != np.arange(group.size)).any():
        raise ValueError(
            f"group {name!r}: expected permutations of 0 … {group.size - 1} as integers of shape "
            f"{shape}, got {order.dtype} of shape {order.shape}: {order.ravel()[:8].tolist()} …"
        )


def check_shapes(symmetry: Symmetry, params: Params) -> None:
    """Raises ValueError unless parameters have the leaves that the symmetry is of."""
    like = {
        name: jax.ShapeDtypeStruct([math.prod(f.size for f in axis) for axis in axes], jnp.float32)
        for name, axes in symmetry.leaves.items()
    }
    names = ("the model of the symmetry", "params")
    tree.same_structure(like, tree.named_leaves(params), names, dtype=False)


@host.only
def check_same_function(apply_fn: ApplyFn, params: Params, permuted: Params, inputs: Any) -> None:
    """Raises unless two models give the same outputs on a batch, up to rounding.

    Raises:
      ValueError: if outputs are apart by more than 0.001 of the largest (0.1 where the model
        computes in 16 bits), or if the model has no finite outputs.
    """
    apart, tolerance = _apart(apply_fn, params, permuted, inputs)
    if not apart <= tolerance:
        raise ValueError(
            "expected permutations that leave the outputs unchanged, got a change by "
            f"{apart:.2g} of the largest output (rounding explains {tolerance:g}). The "
            "permutations do not fit this model; derive the symmetry from the same apply function."
        )


def check(apply_fn: ApplyFn, found: Symmetry, params: Params, inputs: Any) -> None:
    """Raises ValueError if random permutations change what a model like this one computes."""
    rng = np.random.default_rng(0)
    params = tree.map_named(lambda n, x: _moved(x, n in found.statistics, rng), params)
    drawn = {}
    for name, start in orders(found).items():
        drawn[name] = start
        while (drawn[name] == start).all():
            drawn[name] = rng.permuted(start, axis=-1)

    def changes(some: Mapping[str, Any]) -> bool:
        apart, tolerance = _apart(apply_fn, params, permuted(found, some, params), inputs)
        return not apart <= tolerance

    if not changes(drawn):
        return
    guilty = [name for name, order in drawn.items() if changes({name: order})]
    raise ValueError(
        "expected permuting units to leave the outputs unchanged, got a change in the groups "
        f"{', '.join(guilty) or 'together only'}. Check that row i of the outputs depends on row i "
        "of the inputs alone, and that the model is in evaluation mode."
    )


def _moved(leaf: Any, is_statistic: bool, rng: np.random.Generator) -> Any:
    """A leaf with noise of the size of usual weights; a vector (maybe variances) only grows."""
    if not tree.is_inexact(leaf):
        return leaf
    leaf = jnp.asarray(leaf)
    longest = max(leaf.shape, default=1)
    if is_statistic or leaf.size <= longest:
        noise = 0.1 * rng.random(leaf.shape)
    else:
        noise = rng.standard_normal(leaf.shape) / np.sqrt(leaf.size / longest)
    return leaf + jnp.asarray(noise, leaf.dtype)


def _apart(apply_fn: ApplyFn, params: Params, other: Params, inputs: Any) -> tuple[float, float]:
    """The difference of the outputs of two models, and what rounding explains."""
    forward = jax.jit(apply_fn)
    with jax.default_matmul_precision("highest"):
        a, b = (
            np.concatenate([np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(out)])
            for out in (forward(params, inputs), forward(other, inputs))
        )
    finite = np.isfinite(a)
    if not finite.any():
        raise ValueError(
            "expected finite outputs on these inputs, to check that permuting units leaves them "
            "unchanged, got none; pass other inputs"
        )
    if not np.array_equal(finite, np.isfinite(b)):
        return math.inf, _tolerance(apply_fn, params, inputs)
    scale = np.abs(a[finite]).max() or 1.0
    apart = np.abs(a[finite] - b[finite]).max()
    return float(apart / scale), _tolerance(apply_fn, params, inputs)


def _tolerance(apply_fn: ApplyFn, params: Params, inputs: Any) -> float:
    """How far outputs of one function may be apart by rounding, as a share of the largest."""
    ops = graph.trace(apply_fn, params, inputs).ops
    dtypes = {var.aval.dtype for op in ops for var in op.outputs}
    narrow = any(jnp.issubdtype(d, jnp.floating) and d.itemsize < 4 for d in dtypes)
    return 0.1 if narrow else 1e-3
