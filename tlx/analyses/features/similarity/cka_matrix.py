"""How similar each layer of one model is to each of another: CKA, streaming over the data.

The features of at most one batch are held at a time. `cka` and `kernels` define the estimators
and kernels; other measures of all pairs of layers are in `matrix`.

References: T. Nguyen, M. Raghu, S. Kornblith, Do wide and deep networks learn the same
things?, 2021, eq. 3 (sums over minibatches); and those of `cka`.
"""

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from tlx.analyses.features.similarity import _cka_sums, _features, _hsic, cka, kernels
from tlx.analyses.features.similarity._features import Spatial
from tlx.analyses.features.similarity.cka import Estimator
from tlx.analyses.features.similarity.kernels import Kernel
from tlx.core import (
    checks,
    contracts,
    evaluate,
    host,
    intervals,
    public,
    sharding,
    shown,
    streams,
    tree,
    undefined,
)
from tlx.core.pair import Pair
from tlx.core.types import Batch, FeatureFn, Params, Stream

__dir__ = public.names(__name__)

MOST_SPREAD = 0.05
"""`too_few` where unrelated features would give a debiased value of this standard deviation."""

MOST_CHANCE = 0.1
"""`too_few` where unrelated features would give a biased value of this mean."""

LEAST_IMAGES = 30
"""`too_few` below this number of examples if their positions are the rows."""


@shown.short
class CkaResult(NamedTuple):
    """The CKA of all pairs of layers of two models, with the evidence for it.

    Undefined entries are NaN: where a layer's features are constant (in the debiased form also
    where a single example differs from the rest), and where the positions of two layers do
    not correspond.

    Attributes:
      layers_x: the Lx layers of x, in the order of the forward pass.
      layers_y: the Ly layers of y.
      values: float [Lx, Ly] by the requested estimator.
      debiased: float [Lx, Ly], −1 … 1.
      biased: float [Lx, Ly], 0 … 1.
      chance: float [Lx, Ly], the exact mean of `biased` under random permutations of the
        examples of y: its value for unrelated features.
        `chance` and `z` are NaN for "positions", which are not exchangeable.
      z: float [Lx, Ly], `debiased` over its exact standard deviation under such permutations
        within batches; its mean there is 0. Nearly normal for features of many dimensions or
        many batches; for one dimension and one batch skewed to the right (as χ²
        with one degree of freedom), where 3 is exceeded in 2 % of permutations.
      low: float [Lx, Ly], the lower end of the bootstrap interval of `debiased` over
        examples; NaN without resamples, and where one of them is undefined, as happens below
        about 15 examples.
      high: float [Lx, Ly], its upper end.
      too_few: bool [Lx, Ly], whether there are too few examples for the estimator: unrelated
        features would give a debiased or corrected value with a standard deviation above
        `MOST_SPREAD` (debiased: below 30 examples in one batch), or a biased value above
        `MOST_CHANCE`; for "positions", below `LEAST_IMAGES`. Also where the value is undefined.
      num_examples: int32 scalar, the number of examples used.
      num_left_out: int32 scalar, examples in batches with fewer than 4, which were not used.
      spatial: the treatment of the positions of convolutional features.
      kernel: the kernel's name.
    """

    layers_x: tuple[str, ...]
    layers_y: tuple[str, ...]
    values: Float[Array, "Lx Ly"]
    debiased: Float[Array, "Lx Ly"]
    biased: Float[Array, "Lx Ly"]
    chance: Float[Array, "Lx Ly"]
    z: Float[Array, "Lx Ly"]
    low: Float[Array, "Lx Ly"]
    high: Float[Array, "Lx Ly"]
    too_few: Bool[Array, "Lx Ly"]
    num_examples: Int[Array, ""]
    num_left_out: Int[Array, ""]
    spatial: Spatial
    kernel: str


@host.only
def cka_matrix(
    feature_fn_x: FeatureFn,
    params_x: Params,
    feature_fn_y: FeatureFn,
    params_y: Params,
    stream: Stream,
    *,
    estimator: Estimator = "debiased",
    kernel: Kernel | None = None,
    spatial: Spatial = "flatten",
    num_resamples: int = 0,
    key: Array | None = None,
    confidence: float = 0.95,
) -> CkaResult:
    """The CKA of every layer of one model with every layer of another, in one pass.

    The inner products ⟨K~, L~⟩, ‖K~‖² and ‖L~‖² are summed over the batches and divided at
    the end. A batch of n examples thus contributes n(n − 3) times its unbiased HSIC₁ (debiased)
    or (n − 1)² times its HSIC₀ (biased). With all data in one batch this is `cka.cka`.
    With more batches, the debiased value estimates the same quantity at any batch size; the
    biased value keeps the bias of the batch size, however many examples there are, so
    compare biased values only at one batch size. The order of rows within a batch does not matter;
    which rows share a batch changes the value within its sampling error.

    Args:
      feature_fn_x: `(params, inputs) -> {layer: array [B, ...]}`.
      params_x: parameters of x.
      feature_fn_y: as `feature_fn_x`, for y. Given the same function and the very same
        parameters, the features are computed once.
      params_y: parameters of y.
      stream: batches of constant shape, of at least 4 rows. Masked rows change nothing. A
        batch with fewer than 4 unmasked rows is left out and counted in `num_left_out`.
      estimator: that of `values`: "debiased", "biased" or "feature_corrected".
      kernel: one of `tlx.analyses.features.similarity.kernels`; None is the linear one.
      spatial: "flatten" [B, H, W, C] to [B, H·W·C], "pool" over positions to [B, C], or take
        the "positions" as examples, [B·H·W, C]; there only layers with equally many
        positions can be compared.
      num_resamples: R resamples of the bootstrap over examples; 0 for no interval, 200 or more
        for one. Needs batches with `index`.
      key: typed PRNG key of the resamples; an interval depends on it and on which rows
        share a batch, not on the order of batches.
      confidence: of the interval, between 0 and 1.

    Returns:
      `CkaResult`; without a usable batch all values are NaN and `num_examples` is 0. A feature
      function compiled by `jax.jit` should return an OrderedDict: a dict is returned sorted.

    Raises:
      ValueError: for an empty stream (the layers are known from the first batch), batches
        under 4 rows, another estimator or spatial, features that lack the batch axis,
        "feature_corrected" with another kernel than the linear one, resamples without a key,
        without an `index` or of "positions".
      TypeError: if a feature function returns no mapping, or for a key that is not a typed one.

    Numerics: as `cka.cka`; sums over batches in float32 or more with an exponent per layer,
      so that no scale of the features over- or underflows. Compiled code is cached per feature
      function, as by `jax.jit`. The bootstrap draws each example a Poisson number of times
      with mean 1, with the centring held fixed (its first-order effect is zero), and never
      pairs an example with its copy.
    Cost: one pass, a forward pass of each model a batch; for each layer 2B²D flops, for all
      pairs 2·Lx·Ly·B², and as much again for each resample. Memory: the features of one batch
      and (Lx + Ly)·B² floats, whatever the number of examples. Where they are fewer, products
      of features instead, B·ΣDx·ΣDy flops and ΣDx·ΣDy floats.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from tlx.analyses import features
    >>> from tlx.core import streams
    >>> def layers(params, inputs):
    ...     hidden = inputs @ params["body"]
    ...     return {"hidden": hidden, "last": jnp.square(hidden)}
    >>> x, y = {"body": jnp.eye(3)}, {"body": 2 * jnp.eye(3)[::-1]}  # units in another order
    >>> inputs = jax.random.normal(jax.random.key(0), (400, 3))
    >>> stream = streams.from_arrays(inputs, batch_size=200)
    >>> found = features.cka_matrix(layers, x, layers, y, stream)
    >>> print(jnp.abs(found.values).round(1))
    [[1. 0.]
     [0. 1.]]
    """
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, got {confidence}")
    options = _options(estimator, kernel or kernels.linear(), spatial, num_resamples, key)
    options = options._replace(mesh=sharding.mesh_of((params_x, params_y)))
    first, stream = streams.peek(stream)
    if key is not None and num_resamples:
        stream = _with_key(stream, key)
    if first is None:
        raise ValueError("expected a stream with at least one batch, got none")
    names_x = tuple(
        _features.layers(feature_fn_x, params_x, first, name="feature_fn_x", least=_hsic.LEAST_ROWS)
    )
    if feature_fn_x == feature_fn_y and _features.identical(params_x, params_y):
        names_y, fold = names_x, _cka_sums.metric(names_x, None, options)
        found = evaluate(feature_fn_x, fold, params_x, stream)
    else:
        names_y = tuple(
            _features.layers(
                feature_fn_y, params_y, first, name="feature_fn_y", least=_hsic.LEAST_ROWS
            )
        )
        fold = _cka_sums.metric(names_x, names_y, options)
        pair = Pair(feature_fn_x, feature_fn_y)
        found = evaluate(pair, fold, (params_x, params_y), stream)
    low = high = unknown = undefined.like(found["debiased"])
    if num_resamples:
        low, high = intervals.percentile_interval(found["resampled"], confidence)
    values = found[estimator]
    if spatial == "positions":
        too_few = _too_few(values, -found["count"], -LEAST_IMAGES)
    elif estimator == "biased":
        too_few = _too_few(values, found["chance"], MOST_CHANCE)
    else:
        too_few = _too_few(values, found["spread"][estimator], MOST_SPREAD)
    return CkaResult(
        layers_x=names_x,
        layers_y=names_y,
        values=values,
        debiased=found["debiased"],
        biased=found["biased"],
        chance=unknown if spatial == "positions" else found["chance"],
        z=unknown if spatial == "positions" else found["z"],
        low=low,
        high=high,
        too_few=too_few,
        num_examples=found["count"],
        num_left_out=found["left_out"],
        spatial=spatial,
        kernel=options.kernel.name,
    )


@jax.jit
def _too_few(values: Array, of_chance: Array, most: float) -> Array:
    return ~jnp.broadcast_to(of_chance <= most, values.shape) | jnp.isnan(values)


@undefined.allowed
def deconfounded(result: CkaResult, confounder: str) -> Float[Array, "Lx Ly"]:
    """The CKA of all pairs of layers after a layer of both models is regressed out.

    Usually that layer is the inputs (`with_inputs` adds them to a feature function): two nets
    may look similar only because both preserve the similarities of the images.

    Args:
      result: of `cka_matrix`, of feature functions that both have the layer `confounder`, with
        equal features in both (the inputs).
      confounder: its name.

    Returns:
      float [Lx, Ly], −1 … 1, (r_xy − r_x0 r_0y) / √((1 − r_x0²)(1 − r_0y²)) of the values r;
      see `cka.deconfounded_cka`. NaN in the row and column of the confounder, and where it
      explains a layer entirely.

    Raises:
      ValueError: if either model lacks that layer. At call.
    """
    for side, names in (("x", result.layers_x), ("y", result.layers_y)):
        if confounder not in names:
            raise ValueError(f"layers_{side}: {checks.unknown('layer', confounder, names)}")
    i, j = result.layers_x.index(confounder), result.layers_y.index(confounder)
    of_x, of_y = result.values[:, j][:, None], result.values[i][None, :]
    return cka.partial_correlation(result.values, of_x, of_y)


def with_inputs(feature_fn: FeatureFn, name: str = "inputs") -> FeatureFn:
    """A feature function with the inputs as its first layer.

    Of inputs that are several arrays [B, ...] each is a layer, as "inputs/ids"; one without rows is
    none. Raises a ValueError while tracing if the function already has a layer of such a name.
    """
    return _WithInputs(feature_fn, name)


@dataclasses.dataclass(frozen=True)
class _WithInputs:
    """Equal for equal functions, so that compiled code is reused."""

    feature_fn: FeatureFn
    name: str

    def __call__(self, params: Params, inputs: Any) -> Mapping[str, Array]:
        found = self.feature_fn(params, inputs)
        parts = tree.named_leaves({self.name: inputs})
        for name in parts.keys() & found.keys():
            raise ValueError(
                f"expected a feature function without a layer {name!r}, got one with it; pass "
                "another name="
            )
        return OrderedDict({**{name: x for name, x in parts.items() if jnp.ndim(x)}, **found})


def _with_key(stream: Stream, key: Array) -> Stream:
    """The stream with the words of the key in every row, so that it is no compiled constant."""
    words = np.asarray(jax.random.key_data(key))

    def with_words() -> Iterator[Batch]:
        for batch in stream():
            rows = contracts.num_rows(batch["inputs"])
            yield {**batch, _cka_sums.KEY: np.broadcast_to(words, (rows, *words.shape))}

    return with_words


def _options(
    estimator: Estimator, kernel: Kernel, spatial: Spatial, num_resamples: int, key: Array | None
) -> _cka_sums.Options:
    """The options, checked."""
    cka.make_cka(kernel, estimator)
    _features.check_spatial(spatial)
    if num_resamples < 0:
        raise ValueError(f"expected num_resamples of 0 or more, got {num_resamples}")
    if not num_resamples:
        return _cka_sums.Options(kernel, spatial, estimator == "feature_corrected")
    if spatial == "positions":
        raise ValueError(
            "expected spatial='flatten' or 'pool' for the bootstrap, got 'positions', which are "
            "not independent within an image; pass num_resamples=0 or another spatial"
        )
    if key is None:
        raise ValueError(
            "expected a typed key for the bootstrap, such as jax.random.key(0), got None"
        )
    contracts.typed_key(key)
    options = _cka_sums.Options(kernel, spatial, estimator == "feature_corrected")
    return options._replace(num_resamples=num_resamples, key_kind=str(jax.random.key_impl(key)))
