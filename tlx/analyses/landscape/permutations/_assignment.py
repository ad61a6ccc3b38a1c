"""The gain of a pairing of units, and the best pairing of a group with those nested in it."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from tlx.analyses.landscape.permutations import _permutation
from tlx.analyses.landscape.permutations._symmetry import Factor, Permutations, Symmetry
from tlx.core import tree
from tlx.core.types import Params

Block = tuple[str, tuple[str, ...]]
"""A group and those nested in it, which are assigned together."""

Weights = dict[str, np.ndarray]
"""Leaf name to values."""


class Gains(NamedTuple):
    """The gains of pairing unit i of a with unit j of b.

    Attributes:
      outer: [n, n].
      inner: nested group to [n, m, n, m]: for unit k of i and unit l of j.
    """

    outer: np.ndarray
    inner: dict[str, np.ndarray]


def blocks(symmetry: Symmetry) -> tuple[Block, ...]:
    """All groups, each with those nested in it."""
    groups = symmetry.groups.values()
    return tuple(
        (g.name, tuple(h.name for h in groups if h.within == g.name))
        for g in groups
        if g.within is None
    )


def slots(block: Block, flat: tuple[Factor, ...]) -> list[tuple[int, ...]]:
    """Where a block is in a value: places of its group, each with one nested in it if there is."""
    outer, inner = block
    nested = [
        (_permutation.outer_of(flat, i, outer) or 0, i)
        for i, factor in enumerate(flat)
        if factor.group in inner
    ]
    taken = {place for place, _ in nested}
    alone = [(i,) for i, f in enumerate(flat) if f.group == outer and i not in taken]
    return [*nested, *alone]


def no_gains(symmetry: Symmetry, block: Block) -> Gains:
    """Gains of zero, to add to."""
    outer, inner = block
    n = symmetry.groups[outer].size
    sizes = {name: symmetry.groups[name].size for name in inner}
    return Gains(np.zeros((n, n)), {name: np.zeros((n, m, n, m)) for name, m in sizes.items()})


def add(
    gains: Gains, flat: tuple[Factor, ...], slot: tuple[int, ...], products: np.ndarray
) -> None:
    """Adds the gains of a slot, [units of a, units of b]."""
    if len(slot) == 1:
        gains.outer[...] += products
    else:
        of_group = gains.inner[str(flat[slot[1]].group)]
        of_group += products.reshape(of_group.shape)


def weight_gains(
    symmetry: Symmetry, block: Block, a: Weights, b: Weights, found: Permutations
) -> Gains:
    """The gains of pairs of units by their weights, with everything else fixed.

    The gradient of ⟨a, P(b)⟩: exact where no leaf has the units of a block in two places.
    """
    outer, inner = block
    gains = no_gains(symmetry, block)
    for name, axes, value in _of_block(symmetry, block, a):
        flat = tuple(factor for axis in axes for factor in axis)
        placed = _permutation.permute_leaf(symmetry, found, axes, b[name])
        for slot in slots(block, flat):
            add(gains, flat, slot, _products(flat, slot, value, placed))
    out = no_gains(symmetry, block)  # with the units of b where they are in b
    out.outer[:, found[outer]] = gains.outer
    for name in inner:
        out.inner[name][:, :, found[outer][:, None], found[name]] = gains.inner[name]
    return out


def _products(flat: tuple[Factor, ...], slot: tuple[int, ...], a: Any, b: Any) -> np.ndarray:
    units = math.prod(flat[i].size for i in slot)
    shape = [factor.size for factor in flat]
    rows = [
        np.moveaxis(x.reshape(shape), slot, range(len(slot))).reshape(units, -1) for x in (a, b)
    ]
    return rows[0] @ rows[1].T


def _of_block(symmetry: Symmetry, block: Block, a: Weights) -> Iterator[tuple[str, Any, Any]]:
    """Name, axes and value of the leaves that have units of a block."""
    for name, value in a.items():
        axes = symmetry.leaves[name]
        if any(factor.group == block[0] for axis in axes for factor in axis):
            yield name, axes, value


def proposals(found: Permutations, block: Block, gains: Gains) -> list[Permutations]:
    """The best choice by gains: for the block, then for each nested group with the outer kept."""
    outer, inner = block
    n = len(gains.outer)
    total = gains.outer.copy()
    choices = {}
    for name in inner:
        gain = gains.inner[name]
        choices[name] = np.empty((n, n, gain.shape[1]), np.int32)
        for i, j in np.ndindex(n, n):
            rows, columns = linear_sum_assignment(gain[i, :, j], maximize=True)
            choices[name][i, j] = columns
            total[i, j] += gain[i, :, j][rows, columns].sum()
    rows, best = linear_sum_assignment(total, maximize=True)
    together = {name: choice[rows, best] for name, choice in choices.items()}
    alone = [{name: choice[rows, found[outer]]} for name, choice in choices.items()]
    return [{outer: best.astype(np.int32), **together}, *alone]


def ascend(symmetry: Symmetry, a: Weights, b: Weights, found: Permutations, rng: Any) -> None:
    """Improves `found` block by block until no proposal has a gain."""
    chosen = blocks(symmetry)
    leaves = [{name for name, *_ in _of_block(symmetry, block, a)} for block in chosen]
    waiting = set(range(len(chosen)))  # those of which a leaf has moved since they were set
    while waiting:
        for i in rng.permutation(sorted(waiting)):
            waiting.discard(i)
            if _improve(symmetry, chosen[i], a, b, found):
                waiting |= {j for j, names in enumerate(leaves) if names & leaves[i]}


def _improve(symmetry: Symmetry, block: Block, a: Weights, b: Weights, found: Permutations) -> bool:
    """Takes the first proposal that gains."""
    gains = weight_gains(symmetry, block, a, b, found)
    present = objective(symmetry, a, b, found, block)
    for new in proposals(found, block, gains):
        if all(np.array_equal(order, found[name]) for name, order in new.items()):
            continue
        if objective(symmetry, a, b, found | new, block) > present + 1e-6 * abs(present):
            found.update(new)
            return True
    return False


def objective(
    symmetry: Symmetry, a: Weights, b: Weights, found: Permutations, block: Block | None = None
) -> float:
    """⟨a, P(b)⟩, over all leaves or those that have units of a block."""
    leaves = [(n, symmetry.leaves[n], v) for n, v in a.items()]
    return sum(
        float(
            np.sum(value * _permutation.permute_leaf(symmetry, found, axes, b[name]), dtype=float)
        )
        for name, axes, value in (leaves if block is None else _of_block(symmetry, block, a))
    )


def counted(symmetry: Symmetry, params: Params) -> Weights:
    """The leaves that count for weights, on the host: floating, and no running statistics.

    Raises:
      ValueError: naming the leaves that are not finite.
      TypeError: naming those that are complex.
    """
    out = {}
    leaves = tree.named_leaves(params).items()
    turned = [name for name, leaf in leaves if jnp.iscomplexobj(leaf)]
    if turned:
        raise TypeError(
            f"expected real weights, got complex ones in {', '.join(turned)}: their units can also "
            "be rotated in phase, for which matching is not defined here"
        )
    for name, leaf in tree.named_leaves(params).items():
        if tree.is_inexact(leaf) and name not in symmetry.statistics:
            value = np.asarray(jax.device_get(leaf))
            out[name] = value if value.dtype == np.float64 else value.astype(np.float32)
    bad = [name for name, value in out.items() if not np.isfinite(value).all()]
    if bad:
        raise ValueError(
            f"expected finite weights, got NaN or infinity in {', '.join(bad)}: the units of a "
            "diverged model cannot be matched. A mask that is not a weight belongs in the apply "
            "function"
        )
    return out
