"""A comparison of all pairs of layers from the rows of all examples, with the evidence for it."""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tlx.analyses.features.similarity import _examples, _features, _resampling, measures
from tlx.analyses.features.similarity._comparison import Comparison
from tlx.core import undefined

PREPARED_BYTES = 2**32
"""The bytes of prepared layers of y kept on the device; beyond them, x is prepared again."""


class Table(NamedTuple):
    """As in `matrix.SimilarityResult`, each [Lx, Ly]."""

    values: Array
    z: Array
    p_value: Array
    low: Array
    high: Array


class Draws(NamedTuple):
    """The permutations and subsets to draw, and the number of examples."""

    num_examples: int
    permutations: int
    resamples: int
    key: Array | None
    confidence: float


@undefined.allowed
def of_rows(
    entry: measures.Measure, source: _examples.Source, batches: list[Any], draws: Draws
) -> Table:
    """The table of all pairs of layers, from the examples that were kept."""
    comparison, n = entry.comparison, draws.num_examples
    models = [
        [_examples.joined(batches, model, i) for i in range(len(layers))]
        for model, layers in enumerate((source.x, source.y)[: 1 if source.is_one else 2])
    ]

    def evident(x: Any, y: Any, positions: int) -> tuple[Array, Array, Array]:
        value = _compare(comparison, x, y)
        if draws.key is None or not draws.permutations:
            return value, jnp.full_like(value, jnp.nan), jnp.full_like(value, jnp.nan)
        key = _resampling.keys(draws.key)[0]
        null = _resampling.null(comparison, draws.permutations, n, x, y, key, positions=positions)
        _, _, z, p_value = _resampling.against(null, value, entry.higher_is_similar)
        return value, z, p_value

    values, z, p_value = _all_pairs(comparison, models, n, evident, width=3)
    low = high = jnp.full_like(values, jnp.nan)
    if draws.key is not None and draws.resamples:
        sizes = (n, _resampling.subset_size(comparison, n))
        subsets = _subsets(comparison, models, sizes, draws)
        low, high = _resampling.interval(
            subsets, values, sizes, draws.confidence, entry.low, entry.high
        )
    return Table(values, z, p_value, low, high)


def _subsets(
    comparison: Comparison, models: list[list[np.ndarray]], sizes: tuple[int, int], draws: Draws
) -> Float[Array, "R Lx Ly"]:
    """The measure of all pairs on random subsets, one subset at a time."""
    (n, m), found = sizes, []
    assert draws.key is not None
    for layer in models[-1]:
        shape = jax.eval_shape(_features.matrix, layer[: m * (len(layer) // n)])
        _resampling.prepared_shape(comparison, shape)

    def of_subset(x: Any, y: Any, _: int) -> tuple[Array, ...]:
        return (_compare(comparison, x, y),)

    key = _resampling.keys(draws.key)[1]
    for number in range(draws.resamples if m < n else 0):
        taken = np.asarray(_resampling.order(key, number, n))[:m]
        some = [
            [z.reshape(n, len(z) // n, -1)[taken].reshape(-1, z.shape[1]) for z in model]
            for model in models
        ]
        found += _all_pairs(comparison, some, m, of_subset, width=1)
    return jnp.stack(found) if found else jnp.zeros((0, len(models[0]), len(models[-1])))


def _all_pairs(
    comparison: Comparison,
    models: list[list[np.ndarray]],
    num_examples: int,
    of_pair: Callable[[Any, Any, int], tuple[Array, ...]],
    *,
    width: int,
) -> list[Float[Array, "Lx Ly"]]:
    """The scalars that a function of `(prepared_x, prepared_y, positions)` returns for every pair.

    NaN for two layers with different numbers of positions.
    """
    x, y = models[0], models[-1]
    found: dict[tuple[int, int], tuple[Array, ...]] = {}
    for block in _blocks(comparison, y):
        for i, rows in enumerate(x):
            known = len(models) == 1 and i in block
            prepared = block[i] if known else _prepare(comparison, rows)
            for j in block:
                if len(rows) == len(y[j]):
                    found[i, j] = of_pair(prepared, block[j], len(rows) // num_examples)
    pairs = [(i, j) for i in range(len(x)) for j in range(len(y))]
    nothing = (jnp.full((), jnp.nan),) * width
    columns = zip(*(found.get(pair, nothing) for pair in pairs), strict=True)
    return [jnp.stack(column).reshape(len(x), len(y)) for column in columns]


def _blocks(comparison: Comparison, layers: list[np.ndarray]) -> Iterator[dict[int, Any]]:
    """Prepared layers by index, as many at once as fit in `PREPARED_BYTES`."""
    block: dict[int, Any] = {}
    size = 0
    for j, rows in enumerate(layers):
        found = jax.eval_shape(comparison.prepare, jax.eval_shape(_features.matrix, rows))
        more = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(found))
        if block and size + more > PREPARED_BYTES:
            yield block
            block, size = {}, 0
        block[j] = _prepare(comparison, rows)
        size += more
    yield block


@functools.partial(jax.jit, static_argnums=0)
def _prepare(comparison: Comparison, rows: Array) -> Any:
    return comparison.prepare(_features.matrix(rows))


@functools.partial(jax.jit, static_argnums=0)
def _compare(comparison: Comparison, x: Any, y: Any) -> Array:
    return comparison.compare(x, y)
