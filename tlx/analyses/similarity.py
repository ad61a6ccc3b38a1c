"""How similar the features of two models are: linear centred kernel alignment (CKA).

With K = XXᵀ, L = YYᵀ the Gram matrices of two sets of features on the same n examples,
CKA = ⟨K~, L~⟩ / (‖K~‖ ‖L~‖). The estimator says what ~ does:

- "biased": both sides centred, K~ = HKH (HSIC₀). Positive even between independent
  features, the more so the fewer examples there are for the features' dimension.
- "debiased": the diagonal left out and U-centred, so that ⟨K~, L~⟩ / (n(n − 3)) is the
  unbiased HSIC₁. Zero on average between independent features, hence often negative.

References: S. Kornblith, M. Norouzi, H. Lee, G. Hinton, Similarity of neural network
representations revisited, 2019; L. Song et al., Feature selection via dependence
maximization, 2012, eq. 5; G. Székely, M. Rizzo, Partial distance correlation, 2014, eq. 2.5;
T. Nguyen, M. Raghu, S. Kornblith, Do wide and deep networks learn the same things?, 2021,
eq. 3 (sums over minibatches).
"""

import functools
import itertools
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tlx.analyses import _hsic
from tlx.analyses._pair import Pair
from tlx.core import checks, evaluate
from tlx.core.metrics import mask_of
from tlx.core.types import Batch, FeatureFn, Metric, Params, Stream

ESTIMATORS = ("debiased", "biased")
"""The estimators of CKA; see the module's text."""

LEAST_ROWS = 4
"""The fewest examples of which the debiased estimator is defined."""

Estimator = Literal["debiased", "biased"]


class CkaResult(NamedTuple):
    """The CKA of all pairs of layers of two models.

    Attributes:
      layers_x: the Lx layers of x, in the order of the forward pass.
      layers_y: the Ly layers of y.
      values: float [Lx, Ly] by the estimator that was asked for. At most 1; NaN where a
        layer's features are constant (in the debiased form also where one example alone
        differs from the rest).
      debiased: float [Lx, Ly], −1 … 1.
      biased: float [Lx, Ly], 0 … 1.
      num_examples: int32 scalar, the examples that entered.
      num_left_out: int32 scalar, examples in batches with fewer than 4, which did not.
    """

    layers_x: tuple[str, ...]
    layers_y: tuple[str, ...]
    values: Float[Array, "Lx Ly"]
    debiased: Float[Array, "Lx Ly"]
    biased: Float[Array, "Lx Ly"]
    num_examples: Int[Array, ""]
    num_left_out: Int[Array, ""]


def linear_cka(x: Any, y: Any, *, estimator: Estimator = "debiased") -> Float[Array, ""]:
    """The linear CKA of two sets of features on the same n examples.

    Invariant to orthogonal maps, isotropic scaling and translation of either set, and
    symmetric. See the module's text for the formula.

    Args:
      x: [n, ...] features of n ≥ 4 examples; flattened to [n, Dx].
      y: [n, ...] features of the same examples.
      estimator: "debiased" or "biased".

    Returns:
      Scalar: "biased" 0 … 1, "debiased" −1 … 1 (negative values are kept). NaN where the
      features are constant or hold NaN.

    Raises:
      ValueError: for fewer than 4 examples, lengths that differ or another estimator. At
        call, also while tracing.

    Numerics: float32 or more, products at the highest precision, features shifted by their
    first row and centred before any product, so that an offset of 100 times the spread costs
    no accuracy; values to about 1e-5 in float32.
    Cost: 2n²(Dx + Dy) or 2n(Dx² + Dy² + DxDy) flops, whichever form is smaller.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(checks.unknown("estimator", estimator, ESTIMATORS))
    x, y = jnp.asarray(x), jnp.asarray(y)
    if x.ndim < 1 or y.ndim < 1 or len(x) != len(y):
        raise ValueError(
            f"expected features [n, ...] of the same examples, got shapes {x.shape} and {y.shape}"
        )
    if len(x) < LEAST_ROWS:
        raise ValueError(f"CKA needs at least {LEAST_ROWS} examples, got {len(x)}")
    return getattr(_linear_cka(x, y), estimator)


@jax.jit
def _linear_cka(x: Array, y: Array) -> _hsic.Inner:
    n, dx, dy = len(x), x.size // len(x), y.size // len(y)
    if n * (dx + dy) <= dx * dx + dy * dy + dx * dy:
        everything = jnp.ones(n, bool)
        products = _hsic.products(*(_hsic.grams([z], everything) for z in (x, y)))
    else:
        x, y = _scaled(_hsic.centred(x)), _scaled(_hsic.centred(y))
        pairs = (_hsic.products_from_features(a, b) for a, b in ((x, y), (x, x), (y, y)))
        products = _hsic.Products(*pairs)
    return _hsic.Inner(*(ratio.reshape(()) for ratio in products.ratios()))


def cka_matrix(
    feature_fn_x: FeatureFn,
    params_x: Params,
    feature_fn_y: FeatureFn,
    params_y: Params,
    stream: Stream,
    *,
    estimator: Estimator = "debiased",
) -> CkaResult:
    """The linear CKA of every layer of one model with every layer of another, in one pass.

    The inner products ⟨K~, L~⟩, ‖K~‖² and ‖L~‖² are summed over the batches and divided at
    the end. Each batch of n examples so weighs n(n − 3) times its unbiased HSIC₁ (debiased)
    or (n − 1)² times its HSIC₀ (biased). With all data in one batch this is `linear_cka`.
    With more, the debiased value estimates the same quantity whatever the batch size; the
    biased value keeps the bias of the batch size, however many examples there are, so
    compare biased values only at one batch size. Rows may come in any order within a batch;
    which rows share a batch changes the value within its sampling error.

    Args:
      feature_fn_x: `(params, inputs) -> {layer: array [B, ...]}`; each is flattened to [B, D].
      params_x: parameters of x.
      feature_fn_y: as `feature_fn_x`, for y. Given the same function and the very same
        parameters, the features are computed once.
      params_y: parameters of y.
      stream: batches of constant shape, of at least 4 rows. Masked rows change nothing. A
        batch with fewer than 4 unmasked rows is left out and counted in `num_left_out`.
      estimator: which of the two `values` holds; both are computed.

    Returns:
      `CkaResult`; without a usable batch all values are NaN and `num_examples` is 0. A feature
      function compiled by `jax.jit` should return an OrderedDict: a dict comes out sorted.

    Raises:
      ValueError: for an empty stream (the layers are known from the first batch), batches
        under 4 rows, another estimator, or features that lack the batch axis.
      TypeError: if a feature function returns no mapping.

    Numerics: as `linear_cka`; sums over batches in float32 or more with an exponent per
    layer, so that no scale of the features over- or underflows.
    Cost: one pass, a forward pass of each model a batch; for each layer 2B²D flops, for all
    pairs 2·Lx·Ly·B². Memory: the features of one batch and (Lx + Ly)·B² floats, whatever the
    number of examples.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(checks.unknown("estimator", estimator, ESTIMATORS))
    batches = iter(stream())
    first = next(batches, None)
    if first is None:
        raise ValueError("expected a stream with at least one batch, got none")
    rest = itertools.chain([first], batches)
    layers_x = layers_y = _layers(feature_fn_x, params_x, first, "feature_fn_x")
    if feature_fn_x == feature_fn_y and _identical(params_x, params_y):
        fold = metric(layers_x, None)
        found = evaluate(feature_fn_x, fold, params_x, lambda: rest)
    else:
        layers_y = _layers(feature_fn_y, params_y, first, "feature_fn_y")
        fold = metric(layers_x, layers_y)
        pair = Pair(feature_fn_x, feature_fn_y)
        found = evaluate(pair, fold, (params_x, params_y), lambda: rest)
    return CkaResult(
        layers_x=layers_x,
        layers_y=layers_y,
        values=found[estimator],
        debiased=found["debiased"],
        biased=found["biased"],
        num_examples=found["count"],
        num_left_out=found["left_out"],
    )


@functools.cache
def metric(layers_x: tuple[str, ...], layers_y: tuple[str, ...] | None) -> Metric:
    """The streaming CKA as a metric on outputs (features_x, features_y), two mappings.

    Args:
      layers_x: the layers to take of features_x.
      layers_y: the layers to take of features_y; None compares x with itself, and the
        outputs are then features_x alone.

    Returns:
      A metric; results are `debiased` and `biased` [Lx, Ly], `count`, `left_out`.
    """
    num_x, num_y = len(layers_x), len(layers_x if layers_y is None else layers_y)

    def init() -> _State:
        def nothing(*shape: int) -> _hsic.Inner:
            zeros = jnp.zeros(shape, jnp.result_type(float))
            return _hsic.Inner(zeros, zeros)

        sums = _hsic.Products(nothing(num_x, num_y), nothing(num_x), nothing(num_y))
        x, y = (jnp.full(num, _hsic.NO_SCALE, jnp.int32) for num in (num_x, num_y))
        zero = jnp.zeros((), jnp.int32)
        return _State(sums, x, y, used=zero, left_out=zero)

    def update(state: _State, outputs: Any, batch: Batch) -> _State:
        mask = mask_of(batch)
        first = outputs if layers_y is None else outputs[0]
        x = _hsic.grams([first[name] for name in layers_x], mask)
        y = x if layers_y is None else _hsic.grams([outputs[1][name] for name in layers_y], mask)
        return merge(state, _of_batch(x, y, jnp.sum(mask, dtype=jnp.int32)))

    def merge(s: _State, t: _State) -> _State:
        x, y = jnp.maximum(s.exponent_x, t.exponent_x), jnp.maximum(s.exponent_y, t.exponent_y)
        sums = jax.tree.map(jnp.add, s.scaled_to(x, y), t.scaled_to(x, y))
        return _State(sums, x, y, s.used + t.used, s.left_out + t.left_out)

    @jax.jit
    def compute(state: _State) -> dict[str, Array]:
        counts = {"count": state.used, "left_out": state.left_out}
        return state.sums.ratios()._asdict() | counts

    return Metric(init, update, merge, compute)


class _State(NamedTuple):
    """The sums over batches; those of a layer in units of 2^exponent for each Gram matrix."""

    sums: _hsic.Products
    exponent_x: Int[Array, " Lx"]
    exponent_y: Int[Array, " Ly"]
    used: Int[Array, ""]
    left_out: Int[Array, ""]

    def scaled_to(self, exponent_x: Array, exponent_y: Array) -> _hsic.Products:
        """The sums in coarser units."""
        x = _hsic.power_of_two(self.exponent_x - exponent_x)
        y = _hsic.power_of_two(self.exponent_y - exponent_y)
        factors = _hsic.Products(*(_hsic.Inner(f, f) for f in (jnp.outer(x, y), x * x, y * y)))
        return jax.tree.map(jnp.multiply, self.sums, factors)


def _of_batch(x: _hsic.Grams, y: _hsic.Grams, rows: Array) -> _State:
    """The state after one batch: nothing but `left_out` for one of too few rows."""
    enough = rows >= LEAST_ROWS
    sums = jax.tree.map(lambda part: jnp.where(enough, part, 0), _hsic.products(x, y))
    exponent_x, exponent_y = (jnp.where(enough, z.exponent, _hsic.NO_SCALE) for z in (x, y))
    used = jnp.where(enough, rows, 0)
    return _State(sums, exponent_x, exponent_y, used, rows - used)


def _scaled(x: Array) -> Array:
    """Features divided by the power of two at their largest entry, so that no square overflows."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), initial=0))
    return jnp.ldexp(x, -jnp.frexp(largest)[1])


@functools.lru_cache(maxsize=128)  # the same object again, for which tracing is remembered
def _ordered(feature_fn: FeatureFn) -> FeatureFn:
    """A feature function whose result keeps its order through tracing."""

    def ordered(params: Params, inputs: Any) -> OrderedDict[str, Array]:
        features = feature_fn(params, inputs)
        if not isinstance(features, Mapping):
            raise TypeError(
                "expected a feature function to return a mapping of layer names to arrays, "
                f"got {type(features).__name__}"
            )
        return OrderedDict(features)

    return ordered


def _layers(feature_fn: FeatureFn, params: Params, batch: Batch, name: str) -> tuple[str, ...]:
    """The names of the layers, with their shapes checked; nothing is computed."""
    inputs = batch["inputs"]
    found: Mapping[str, Any] = jax.eval_shape(_ordered(feature_fn), params, inputs)
    rows = len(jax.tree.leaves(inputs)[0])
    if rows < LEAST_ROWS:
        raise ValueError(
            f"CKA needs batches of at least {LEAST_ROWS} rows, got {rows}; raise the batch size"
        )
    if not found:
        raise ValueError(f"expected {name} to give at least one layer, got none")
    wrong = [f"{key} {v.shape}" for key, v in found.items() if v.shape[:1] != (rows,)]
    if wrong:
        raise ValueError(
            f"expected each layer of {name} as [B, ...] with B = {rows}; got {', '.join(wrong)}"
        )
    return tuple(found)


def _identical(a: Params, b: Params) -> bool:
    left, right = jax.tree.leaves(a), jax.tree.leaves(b)
    return len(left) == len(right) and all(x is y for x, y in zip(left, right, strict=True))
