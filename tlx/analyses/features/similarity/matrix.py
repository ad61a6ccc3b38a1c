"""The similarity of every layer of one model with every layer of another, by any measure.

The values are those of the measure on all N examples at once: batches only deliver the
features. `cka_matrix` differs: it is an estimate from sums over batches, in
memory that grows with neither the examples nor the layers' width. Each value can come with its
`evidence`.
"""

from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tlx.analyses.features.similarity import (
    _examples,
    _features,
    _layer_pairs,
    _resampling,
    _second_moments,
    measures,
)
from tlx.analyses.features.similarity._comparison import Comparison
from tlx.analyses.features.similarity._features import Spatial
from tlx.core import checks, host, public, shown, streams, undefined
from tlx.core.types import FeatureFn, Params, Stream

__dir__ = public.names(__name__)

Hold = Literal["auto", "rows", "moments"]

HOLD: tuple[Hold, ...] = ("auto", "rows", "moments")
"""What is kept of the features over the pass; see `matrix`."""


@shown.short
class SimilarityResult(NamedTuple):
    """A measure of all pairs of layers of two models.

    Attributes:
      measure: the measure's name.
      layers_x: the Lx layers of x, in the order of the forward pass.
      layers_y: the Ly layers of y.
      values: float [Lx, Ly], entry [i, j] the measure of (x_i, y_j), in this order where it is
        not symmetric. NaN where the measure is undefined, such as for constant features, and
        with "positions" where two layers have different numbers of them.
      z: float [Lx, Ly], as in `evidence.Evidence`; NaN without permutations.
      p_value: float [Lx, Ly], likewise, of each value by itself: among many, some are small by
        chance.
      low: float [Lx, Ly], the lower end of the interval; NaN without resamples.
      high: float [Lx, Ly], its upper end.
      too_few: bool [Lx, Ly], whether N is below what the measure's estimator needs for
        features as wide as these (`Measure.needed`), or the value is NaN. N counts examples even
        with "positions", since those of one image are not independent.
      num_examples: int32 scalar, N.
      spatial: the treatment of positions.
    """

    measure: str
    layers_x: tuple[str, ...]
    layers_y: tuple[str, ...]
    values: Float[Array, "Lx Ly"]
    z: Float[Array, "Lx Ly"]
    p_value: Float[Array, "Lx Ly"]
    low: Float[Array, "Lx Ly"]
    high: Float[Array, "Lx Ly"]
    too_few: Bool[Array, "Lx Ly"]
    num_examples: Int[Array, ""]
    spatial: Spatial


@host.only
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
    num_permutations: int = 0,
    num_resamples: int = 0,
    key: Array | None = None,
    confidence: float = 0.95,
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
      spatial: the treatment of the axes between examples and channels; see `Spatial`.
      hold: "rows" keeps the features of all examples. "moments" keeps second moments, in
        memory that does not grow with N; for measures that are functions of covariances.
        "auto" keeps rows up to four times as many as the widest layer has features, and for
        as long as moments are no smaller; then moments, if the measure has such a form and
        loses no accuracy by it: not for those that give directions of small variance
        full weight (the CCA family and regression), whose number of directions would change.
        Permutations and resamples need rows, which "auto" then keeps.
      num_permutations: for z and the p-value of each pair, as `evidence.evidence`: examples
        of y are permuted, with all their positions, the same way for all pairs.
      num_resamples: subsets of the examples for the interval of each pair, likewise.
      key: typed PRNG key for both; each pair gets the result of `evidence.evidence` with it.
      confidence: of the interval, between 0 and 1.

    Returns:
      `SimilarityResult`.

    Raises:
      ValueError: before the pass for an unknown measure, spatial or hold, "moments" for a
        measure (or, with "positions", for layers) without that form, an empty stream, no
        layers, or layers without the batch axis, negative numbers, a confidence that is not
        between 0 and 1, or permutations or resamples with "moments"; after it where N is
        below the smallest for which the measure is defined.
      TypeError: if a feature function returns no mapping, or for a key that is not typed.

    Numerics: as the measure; from moments as in `_second_moments`.
    Cost: one pass, a forward pass of each model a batch; then each layer is prepared once and
    all pairs are compared (`Measure.cost`). Memory: rows are held on the host in the features'
    dtype, N·(ΣDx + ΣDy) numbers, and the prepared layers of y on the device, up to
    `_layer_pairs.PREPARED_BYTES` (many n² floats for a kernel): beyond that, layers of x are
    prepared once for each such block. Permutations compare that many times more, without
    preparation; each subset costs as much as the values on 0.8 N examples. Moments: (ΣDx)·(ΣDy) +
    ΣDx² + ΣDy² floats on the device. One process only.

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import features
    >>> from tlx.core import streams
    >>> def layers(params, inputs):
    ...     return {"both": inputs @ params["mix"], "one": inputs[:, :1]}
    >>> x, y = {"mix": jnp.eye(2)}, {"mix": 3 * jnp.eye(2)[::-1]}  # scaled, units exchanged
    >>> inputs = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> stream = streams.from_arrays(inputs, batch_size=2)
    >>> print(features.matrix("procrustes", layers, x, layers, y, stream).values.round(2))
    [[1.   0.71]
     [0.71 1.  ]]
    """
    entry = measures.get(measure)
    _features.check_spatial(spatial)
    if hold not in HOLD:
        raise ValueError(checks.unknown("hold", hold, HOLD))
    _resampling.check(num_permutations, num_resamples, key, confidence)
    needs_rows = num_permutations + num_resamples > 0
    if needs_rows and hold == "moments":
        raise ValueError(
            "expected hold='rows' or 'auto' for permutations and resamples, got 'moments'"
        )
    first, stream = streams.peek(stream)
    if first is None:
        raise ValueError("expected a stream with at least one batch, got none")
    source = _examples.source_of(feature_fn_x, params_x, feature_fn_y, params_y, first, spatial)
    form = _form(entry, source, "rows" if needs_rows else hold)
    held = _examples.read(source, stream, moments=form is not None, at_once=hold == "moments")
    _check_number(entry.comparison, source, held.num_examples)
    if form is not None and held.moments is not None:
        values = _second_moments.table(form, held.moments)
        found = _layer_pairs.Table(values, *(undefined.like(values),) * 4)
    else:
        draws = _layer_pairs.Draws(
            held.num_examples, num_permutations, num_resamples, key, confidence
        )
        found = _layer_pairs.of_rows(entry, source, held.batches, draws)
    few = [[held.num_examples < entry.needed(x.dim, y.dim) for y in source.y] for x in source.x]
    return SimilarityResult(
        entry.name,
        tuple(layer.name for layer in source.x),
        tuple(layer.name for layer in source.y),
        *found,
        too_few=jnp.array(few) | jnp.isnan(found.values),
        num_examples=jnp.asarray(held.num_examples, jnp.int32),
        spatial=spatial,
    )


def _form(
    entry: measures.Measure, source: _examples.Source, hold: Hold
) -> _second_moments.FromMoments | None:
    """The form of the measure from moments; None where rows are to be kept."""
    form: _second_moments.FromMoments | None = entry.comparison.from_moments
    is_even = len({layer.positions for layer in (*source.x, *source.y)}) == 1
    if hold != "moments":
        return form if hold == "auto" and is_even and form and not form.whitens else None
    if form is None:
        raise ValueError(
            f"expected a function of second moments, got {entry.name}; pass hold='rows'"
        )
    if not is_even:
        raise ValueError(
            "expected layers with equally many positions for moments, got different numbers; pass "
            "hold='rows', or spatial='flatten' or 'pool'"
        )
    return form


def _check_number(comparison: Comparison, source: _examples.Source, num_examples: int) -> None:
    num = num_examples * min(layer.positions for layer in (*source.x, *source.y))
    if num < comparison.least:
        raise ValueError(
            f"expected at least {comparison.least} examples for {comparison.name}, got {num}"
        )
