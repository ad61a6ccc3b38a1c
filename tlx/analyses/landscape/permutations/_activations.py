"""Activations of a model by the units of its groups, and correlations between two models."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tlx.analyses.landscape.permutations import _assignment, _permutation, _symmetry
from tlx.analyses.landscape.permutations._assignment import Block, Gains
from tlx.analyses.landscape.permutations._symmetry import Permutations, Symmetry
from tlx.core import evaluate, graph, scale
from tlx.core.metrics import mask_of
from tlx.core.pair import Pair
from tlx.core.types import ApplyFn, Batch, Metric, Params, Stream


def match(
    apply_fn: ApplyFn,
    symmetry: Symmetry,
    params_a: Params,
    params_b: Params,
    stream: Stream,
    inputs: Any,
) -> Permutations:
    """The permutations under which the activations of b correlate best with those of a."""
    sites = _symmetry.sites(graph.trace(apply_fn, params_a, inputs))
    found = _permutation.orders(symmetry)
    waiting = _assignment.blocks(symmetry)
    while waiting:
        settled = frozenset(symmetry.groups) - {
            name for o, inner in waiting for name in (o, *inner)
        }
        ready = tuple(block for block in waiting if _chosen(sites, block, settled))
        if not ready:
            raise ValueError(
                f"expected a layer that reads the units of group {waiting[0][0]!r} alone, got "
                "none, so there are no activations to match them by; use weight_matching"
            )
        reader = _Readings(apply_fn, ready, settled)
        like = jax.eval_shape(reader, params_a, inputs)
        metric = correlations(tuple(tuple(v.shape[-1] for v in values) for values in like))
        placed = _permutation.permuted(symmetry, found, params_b) if settled else params_b
        means = evaluate(Pair(reader, reader), metric, (params_a, placed), stream)
        for block, values in zip(ready, means, strict=True):
            gains = _gains(symmetry, block, _chosen(sites, block, settled), values)
            found.update(_assignment.proposals(found, block, gains)[0])
        waiting = tuple(block for block in waiting if block not in ready)
    return found


def _gains(
    symmetry: Symmetry, block: Block, sites: tuple[_symmetry.Site, ...], correlations: Any
) -> Gains:
    """Sums over the sites of a block of the correlations of units."""
    out = _assignment.no_gains(symmetry, block)
    for site, values in zip(sites, correlations, strict=True):
        slot = _assignment.slots(block, site.factors)[0]
        values = np.nan_to_num(np.asarray(values, np.float64))
        _assignment.add(out, site.factors, slot, values)
    return out


def _chosen(
    sites: Mapping[str, tuple[_symmetry.Site, ...]], block: Block, settled: frozenset[str]
) -> tuple[_symmetry.Site, ...]:
    """The values by which a block is matched, each once: of other units, settled ones only."""
    found = {}
    for name in (block[0], *block[1]):
        for site in sites[name]:
            slots = _assignment.slots(block, site.factors)
            others = {f.group for i, f in enumerate(site.factors) if slots and i not in slots[0]}
            if slots and others <= settled | {None}:
                found[site.value] = site
    return tuple(found.values())


@dataclasses.dataclass(frozen=True)
class _Readings:
    """The activations at the sites of some blocks: [rows, places, units] each."""

    apply_fn: ApplyFn
    blocks: tuple[Block, ...]
    settled: frozenset[str]

    def __call__(self, params: Params, inputs: Any) -> Any:
        traced = graph.trace(self.apply_fn, params, inputs)
        sites = _symmetry.sites(traced)
        _, values = graph.run(traced, params, inputs)
        return tuple(
            tuple(
                _by_unit(values[site.value], site, block)
                for site in _chosen(sites, block, self.settled)
            )
            for block in self.blocks
        )


def _by_unit(value: Any, site: _symmetry.Site, block: Block) -> Any:
    slot = _assignment.slots(block, site.factors)[0]
    value = value.reshape([factor.size for factor in site.factors])
    value = jnp.moveaxis(
        value, (*site.rows, *slot), (*range(len(site.rows)), *range(-len(slot), 0))
    )
    rows, units = (math.prod(site.factors[i].size for i in axes) for axes in (site.rows, slot))
    return value.reshape(rows, -1, units)


@functools.lru_cache(maxsize=64)
def correlations(sizes: tuple[tuple[int, ...], ...]) -> Metric:
    """The correlation of every unit of a with every unit of b, for each value: [u, u].

    Outputs are pairs of `Readings`; a unit without variance gives NaN.
    """

    def init() -> Any:
        dtype = jnp.result_type(float)

        def one(u: int) -> Any:
            units = [jnp.full(u, scale.NO_SCALE, jnp.int32) for _ in "xy"]
            sums = (jnp.zeros(s, dtype) for s in ((), (u,), (u,), (u,), (u,), (u, u)))
            return _Moments(*units, *sums)

        return tuple(tuple(map(one, values)) for values in sizes)

    def update(state: Any, outputs: Any, batch: Batch) -> Any:
        mask = mask_of(batch)
        new = jax.tree.map(lambda x, y: _moments(x, y, mask), *outputs)
        return merge(state, new)

    def merge(s: Any, t: Any) -> Any:
        return jax.tree.map(_merged, s, t, is_leaf=_is_moments)

    def compute(state: Any) -> Any:
        return jax.tree.map(_correlation, state, is_leaf=_is_moments)

    return Metric(init, update, merge, compute)


class _Moments(NamedTuple):
    """Sums over the unmasked rows; those of a unit in units of 2^exponent."""

    exponent_x: Any
    exponent_y: Any
    n: Any
    mean_x: Any
    mean_y: Any
    xx: Any
    yy: Any
    xy: Any

    def scaled_to(self, exponent_x: Any, exponent_y: Any) -> "_Moments":
        """The same sums in coarser units."""
        x = scale.power_of_two(self.exponent_x - exponent_x)
        y = scale.power_of_two(self.exponent_y - exponent_y)
        return _Moments(
            exponent_x,
            exponent_y,
            self.n,
            self.mean_x * x,
            self.mean_y * y,
            self.xx * x * x,
            self.yy * y * y,
            self.xy * x[:, None] * y[None, :],
        )


def _is_moments(x: Any) -> bool:
    return isinstance(x, _Moments)


def _moments(x: Any, y: Any, mask: Any) -> _Moments:
    """Number, means, sums of squares about them, and sums of products, of the unmasked rows."""
    dtype = jnp.result_type(float)
    there = mask[:, None, None]
    n = jnp.sum(there).astype(dtype) * x.shape[1]

    def centred(v: Any) -> tuple[Any, Any, Any]:
        v = jnp.where(there, v.astype(dtype), 0)
        most = jnp.max(jnp.abs(v), (0, 1), initial=0)
        exponent = jnp.where(most == 0, scale.NO_SCALE, jnp.frexp(most)[1]).astype(jnp.int32)
        v = jnp.ldexp(v, jnp.where(most == 0, 0, -exponent)[None, None])
        mean = jnp.sum(v, (0, 1), keepdims=True) / jnp.maximum(n, 1)
        return exponent, mean[0, 0], jnp.where(there, v - mean, 0).reshape(-1, v.shape[-1])

    (exponent_x, mean_x, x), (exponent_y, mean_y, y) = centred(x), centred(y)
    product = jnp.matmul(x.T, y, precision=jax.lax.Precision.HIGHEST)
    squares = jnp.sum(x * x, 0), jnp.sum(y * y, 0)
    return _Moments(exponent_x, exponent_y, n, mean_x, mean_y, *squares, product)


def _merged(s: _Moments, t: _Moments) -> _Moments:
    exponents = (
        jnp.maximum(s.exponent_x, t.exponent_x),
        jnp.maximum(s.exponent_y, t.exponent_y),
    )
    _, _, n, mx, my, xx, yy, xy = s.scaled_to(*exponents)
    _, _, m, nx, ny, xx2, yy2, xy2 = t.scaled_to(*exponents)
    total = jnp.maximum(n + m, 1)
    dx, dy, weight = nx - mx, ny - my, n * m / total
    return _Moments(
        *exponents,
        n + m,
        mx + dx * (m / total),
        my + dy * (m / total),
        xx + xx2 + weight * dx * dx,
        yy + yy2 + weight * dy * dy,
        xy + xy2 + weight * (dx[:, None] * dy[None, :]),
    )


@jax.jit
def _correlation(state: _Moments) -> Any:
    n = state.n
    xx, yy = (
        _beyond_rounding(state.xx, state.mean_x, n),
        _beyond_rounding(state.yy, state.mean_y, n),
    )
    scale = jnp.sqrt(xx[:, None]) * jnp.sqrt(yy[None, :])
    return jnp.where(scale > 0, state.xy / jnp.where(scale > 0, scale, 1), jnp.nan)


def _beyond_rounding(squares: Any, mean: Any, n: Any) -> Any:
    """Sums of squares, but 0 where rounding of a constant explains them."""
    return jnp.where(squares > n * (16 * jnp.finfo(mean.dtype).eps * mean) ** 2, squares, 0)
