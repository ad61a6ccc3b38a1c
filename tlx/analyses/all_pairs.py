"""Every layer of one model with every layer of another, by any measure of similarity.

The values are those of the measure on all N examples at once: batches only carry the
features. `similarity.cka_matrix` is another thing, an estimate from sums over batches, in
memory that grows with neither the examples nor the layers' width.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from tlx.analyses import _examples, _features, _moments, measures
from tlx.analyses._comparison import Comparison
from tlx.analyses._features import Spatial
from tlx.core import checks, streams
from tlx.core.types import FeatureFn, Params, Stream

PREPARED_BYTES = 2**32
"""The prepared layers of y that are kept on the device at once; beyond, x is prepared again."""

Hold = Literal["auto", "rows", "moments"]

HOLD: tuple[Hold, ...] = ("auto", "rows", "moments")
"""What of the features stays in memory over the pass; see `matrix`."""


class SimilarityResult(NamedTuple):
    """A measure of all pairs of layers of two models.

    Attributes:
      measure: the measure's name.
      layers_x: the Lx layers of x, in the order of the forward pass.
      layers_y: the Ly layers of y.
      values: float [Lx, Ly], entry [i, j] the measure of (x_i, y_j), in this order where it is
        not symmetric. NaN where the measure is undefined, such as for constant features, and
        with "positions" where two layers have not equally many.
      too_few: bool [Lx, Ly], whether N is below what the measure's estimator needs for
        features as wide as these (`Measure.needed`). Of N examples also with "positions",
        since those of one image are not independent.
      num_examples: N.
      spatial: what became of positions.
    """

    measure: str
    layers_x: tuple[str, ...]
    layers_y: tuple[str, ...]
    values: Float[Array, "Lx Ly"]
    too_few: Bool[np.ndarray, "Lx Ly"]
    num_examples: int
    spatial: Spatial


def matrix(
    measure: str | measures.Measure,
    feature_fn_x: FeatureFn,
    params_x: Params,
    feature_fn_y: FeatureFn,
    params_y: Params,
    stream: Stream,
    *,
    spatial: Spatial = "flatten",
    hold: Hold = "auto",
) -> SimilarityResult:
    """The measure of every layer of one model with every layer of another, in one pass.

    Equal, up to rounding, to `measures.between` on all N examples, whatever the batch size, the
    padding and the number of devices.

    Args:
      measure: a name in `measures.MEASURES`, or a `Measure`.
      feature_fn_x: `(params, inputs) -> {layer: array [B, ...]}`.
      params_x: parameters of x.
      feature_fn_y: as `feature_fn_x`, for y. Given the same function and the very same
        parameters, the features are computed once.
      params_y: parameters of y.
      stream: batches of constant shape. Masked rows change nothing.
      spatial: what becomes of the axes between examples and channels; see `Spatial`.
      hold: "rows" keeps the features of all examples. "moments" keeps second moments, in
        memory that does not grow with N; for measures that are functions of covariances.
        "auto" keeps rows up to four times as many as the widest layer has features, and for
        as long as moments are no smaller; then moments, where the measure has such a form
        and loses no accuracy by it: not for those that give directions of small variance
        full weight (the CCA family and regression), whose number of directions would change.

    Returns:
      `SimilarityResult`.

    Raises:
      ValueError: before the pass for an unknown measure, spatial or hold, "moments" for a
        measure (or, with "positions", for layers) without that form, an empty stream, no
        layers, or layers without the batch axis; after it where N is below the least that
        the measure is defined for.
      TypeError: if a feature function returns no mapping.

    Numerics: as the measure; from moments as `_moments` says.
    Cost: one pass, a forward pass of each model a batch; then each layer is prepared once and
    all pairs are compared (`Measure.cost`). Memory: rows are held on the host in the features'
    own dtype, N·(ΣDx + ΣDy) numbers, and the prepared layers of y on the device, up to
    `PREPARED_BYTES` (many n² floats for a kernel): beyond, layers of x are prepared once for
    each such block. Moments: (ΣDx)·(ΣDy) + ΣDx² + ΣDy² floats on the device. One process.
    """
    entry = measures.get(measure)
    _features.check_spatial(spatial)
    if hold not in HOLD:
        raise ValueError(checks.unknown("hold", hold, HOLD))
    first, stream = streams.peek(stream)
    if first is None:
        raise ValueError("expected a stream with at least one batch, got none")
    source = _examples.source_of(feature_fn_x, params_x, feature_fn_y, params_y, first, spatial)
    form = _form(entry, source, hold)
    held = _examples.read(source, stream, moments=form is not None, at_once=hold == "moments")
    _check_number(entry.comparison, source, held.num_examples)
    if form is not None and held.moments is not None:
        values = _moments.table(form, held.moments)
    else:
        values = _from_rows(entry.comparison, source, held.batches)
    too_few = [[held.num_examples < entry.needed(x.dim, y.dim) for y in source.y] for x in source.x]
    return SimilarityResult(
        measure=entry.name,
        layers_x=tuple(layer.name for layer in source.x),
        layers_y=tuple(layer.name for layer in source.y),
        values=values,
        too_few=np.array(too_few),
        num_examples=held.num_examples,
        spatial=spatial,
    )


def _form(
    entry: measures.Measure, source: _examples.Source, hold: Hold
) -> _moments.FromMoments | None:
    """How the measure is had from moments; None where rows are to be kept."""
    form = _moments.from_moments(entry.comparison)
    is_even = len({layer.positions for layer in (*source.x, *source.y)}) == 1
    if hold != "moments":
        return form if hold == "auto" and is_even and form and not form.whitens else None
    if form is None:
        raise ValueError(f"{entry.name} is no function of second moments; pass hold='rows'")
    if not is_even:
        raise ValueError(
            "moments of 'positions' need layers with equally many; pass hold='rows', or "
            "spatial='flatten' or 'pool'"
        )
    return form


def _check_number(comparison: Comparison, source: _examples.Source, num_examples: int) -> None:
    num = num_examples * min(layer.positions for layer in (*source.x, *source.y))
    if num < comparison.least:
        raise ValueError(f"{comparison.name} needs at least {comparison.least} examples, got {num}")


def _from_rows(
    comparison: Comparison, source: _examples.Source, batches: list[Any]
) -> Float[Array, "Lx Ly"]:
    """The measure of all pairs of layers of the examples that were kept."""
    models = [
        [_examples.joined(batches, model, i) for i in range(len(layers))]
        for model, layers in enumerate((source.x, source.y)[: 1 if source.is_one else 2])
    ]
    x, y = models[0], models[-1]
    values: dict[tuple[int, int], Array] = {}
    for block in _blocks(comparison, y):
        for i, rows in enumerate(x):
            known = source.is_one and i in block
            prepared = block[i] if known else _prepare(comparison, rows)
            for j in block:
                if len(rows) == len(y[j]):
                    values[i, j] = _compare(comparison, prepared, block[j])
    nothing = jnp.full((), jnp.nan)
    found = [values.get((i, j), nothing) for i in range(len(x)) for j in range(len(y))]
    return jnp.stack(found).reshape(len(x), len(y))


def _blocks(comparison: Comparison, layers: list[np.ndarray]) -> Iterator[dict[int, Any]]:
    """Prepared layers by number, as many at once as `PREPARED_BYTES` hold."""
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
