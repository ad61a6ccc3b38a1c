"""How far apart two domains are in the features of a model.

The Fréchet distance between the normal distributions with the means and covariances of two sets
of features. Unlike the similarity measures it compares two sets of examples in one model, not one
set in two models. It is a distance d, in the unit of the features; the Fréchet inception distance
of Heusel et al. is its square.

References: D. Dowson, B. Landau, The Fréchet distance between multivariate normal distributions,
1982; M. Heusel et al., GANs trained by a two time-scale update rule converge to a local Nash
equilibrium, 2017; R. Bhatia, T. Jain, Y. Lim, On the Bures-Wasserstein distance between positive
definite matrices, 2019; M. Chong, D. Forsyth, Effectively unbiased FID and inception score and
where to find them, 2020 (of the bias).
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tlx.analyses.features.similarity import _features
from tlx.analyses.features.transfer.probes import POOLINGS, Pooling
from tlx.core import checks, host, public, sharding, shown, streams, undefined
from tlx.core.metrics import mask_of
from tlx.core.types import Batch, FeatureFn, Params, Stream

__dir__ = public.names(__name__)


@shown.short
class Distance(NamedTuple):
    """The distance between two sets of features, as scalars; NaN where `frechet` is.

    Attributes:
      distance: d, 0 or more, the root of of_means² + of_covariances².
      of_means: ‖μx − μy‖.
      of_covariances: the distance if the means were equal.
      num_features: int32, D.
      num_x: int32, the examples of x.
      num_y: int32, those of y.
    """

    distance: Float[Array, ""]
    of_means: Float[Array, ""]
    of_covariances: Float[Array, ""]
    num_features: Int[Array, ""]
    num_x: Int[Array, ""]
    num_y: Int[Array, ""]


@host.only
def frechet(features_x: Any, features_y: Any) -> Float[Array, ""]:
    """The Fréchet distance d between normal distributions fitted to two sets of features.

    d² = ‖μx − μy‖² + tr(Σx + Σy − 2(Σx Σy)^½), μ the mean of a set and Σ its covariance, divided
    by one less than its examples.

    With few examples it is biased upwards: between two sets of n from one normal distribution with
    covariance I, d² is about D(D + 5)/(2n) on average (from n = D on; measured with D = 64: 35.1
    at n = 64, 3.45 at 640, 0.344 at 6,400). So compare distances at equal n, and with a baseline:
    the distance between two sets of one domain.

    Args:
      features_x: real [N, ...], flattened to [N, D].
      features_y: real [M, ...], likewise: other examples, of the same features.

    Returns:
      Scalar, 0 or more, in the unit of the features: a distance, 0 where means and covariances
      are equal. Invariant to a common rotation, reflection or translation of both sets and to the
      order of examples; scaling all features scales d. NaN where a set has fewer than two
      examples, or features hold NaN or an infinity.

    Raises:
      ValueError: for sets with different numbers of features, or without an axis of examples.
      TypeError: for complex features.

    Numerics: float64 on the host, as ‖A − UB‖ with Σx = AᵀA, Σy = BᵀB and the orthogonal U that
      minimises it: a sum of squares, so never negative and free of cancellation.
      Absolute error some 1e-15·√tr(Σx + Σy), up to 1e-8·√D times it where covariances are
      nearly singular.
    Cost: 2(N + M)·D² flops and a decomposition of size min(max(N, M), D), some 25 times its
      cube.

    >>> import numpy as np
    >>> from tlx.analyses import features
    >>> x = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> round(float(features.frechet(x, x + [3.0, 4.0])), 3)
    5.0
    """
    of_means, of_covariances = _parts(_matrix(features_x), _matrix(features_y))
    return _scalar(math.hypot(of_means, of_covariances))


@host.only
def distance(
    feature_fn: FeatureFn,
    params: Params,
    stream_x: Stream,
    stream_y: Stream,
    *,
    layer: str,
    spatial: Pooling = "pool",
) -> Distance:
    """The distance `frechet` between two streams of inputs, in a layer of a model.

    Args:
      feature_fn: `(params, inputs) -> {layer: array [B, ...]}`.
      params: its parameters.
      stream_x: batches of one domain; labels are not read, masked rows change nothing.
      stream_y: batches of the other; inputs may have another size if features are pooled.
      layer: the name of the layer.
      spatial: "flatten" [B, H, W, D] to [B, H·W·D], or "pool" over positions to [B, D].

    Returns:
      `Distance`. Batch size, padding and order change only the last bits.

    Raises:
      ValueError: before any pass, for an empty stream, an unknown layer or option, or streams
        with different numbers of features.
      TypeError: for a feature function that returns no mapping.

    Numerics: as `frechet`.
    Cost: one pass over each stream, with the layer's features held on the host; then the cost of
      `frechet`.

    >>> import jax.numpy as jnp
    >>> from tlx.analyses.features.transfer import domains
    >>> from tlx.core import streams
    >>> def layers(params, inputs):
    ...     return {"inputs": inputs, "contrast": inputs - inputs.mean(1, keepdims=True)}
    >>> dark = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> sets = [streams.from_arrays(x, batch_size=4) for x in (dark, dark + 5)]  # brighter by 5
    >>> for layer in ("inputs", "contrast"):
    ...     print(layer, round(float(domains.distance(layers, {}, *sets, layer=layer).distance), 3))
    inputs 7.071
    contrast 0.0
    """
    if spatial not in POOLINGS:
        raise ValueError(checks.unknown("spatial", spatial, POOLINGS))
    firsts, passes = zip(*(streams.peek(stream) for stream in (stream_x, stream_y)), strict=True)
    rows = functools.partial(_rows, feature_fn, layer, spatial)
    widths = []
    for first in firsts:
        if first is None:
            raise ValueError("expected streams with at least one batch each, got an empty one")
        known = _features.layers(feature_fn, params, first, name="feature_fn")
        if layer not in known:
            raise ValueError(checks.unknown("layer", layer, known))
        widths.append(jax.eval_shape(rows, params, first["inputs"]).shape[1])
    if widths[0] != widths[1]:
        raise ValueError(
            f"expected as many features of {layer!r} from both streams, got {widths[0]} and "
            f'{widths[1]}; pool them, spatial="pool"'
        )
    params = sharding.on_devices(params)
    x, y = (_matrix(np.concatenate([_kept(rows, params, b) for b in s()])) for s in passes)
    of_means, of_covariances = _parts(x, y)
    return Distance(
        distance=_scalar(math.hypot(of_means, of_covariances)),
        of_means=_scalar(of_means),
        of_covariances=_scalar(of_covariances),
        num_features=jnp.asarray(widths[0], jnp.int32),
        num_x=jnp.asarray(len(x), jnp.int32),
        num_y=jnp.asarray(len(y), jnp.int32),
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _rows(
    feature_fn: FeatureFn, layer: str, spatial: Pooling, params: Params, inputs: Any
) -> Float[Array, "B D"]:
    every = jnp.ones(jax.tree.leaves(inputs)[0].shape[:1], bool)
    return _features.arrange(feature_fn(params, inputs)[layer], every, spatial)[0]


def _kept(rows: Any, params: Params, batch: Batch) -> np.ndarray:
    """The rows of a batch that are examples."""
    inputs = sharding.place_rows(batch, sharding.mesh_of(params))["inputs"]
    found: np.ndarray = sharding.to_host(rows(params, inputs))
    return found[np.asarray(mask_of(batch))]


def _matrix(features: Any) -> Float[np.ndarray, "N D"]:
    x = np.asarray(features)
    if x.ndim < 1:
        raise ValueError(f"expected features [N, ...], got shape {x.shape}")
    if np.iscomplexobj(x):
        raise TypeError(f"expected real features, got dtype {x.dtype}")
    return x.astype(np.float64).reshape(len(x), math.prod(x.shape[1:]))


def _parts(x: Float[np.ndarray, "N D"], y: Float[np.ndarray, "M D"]) -> tuple[float, float]:
    """The distances between means and between covariances."""
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"expected as many features in both sets, got {x.shape[1]} and {y.shape[1]}"
        )
    if min(len(x), len(y)) < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return math.nan, math.nan
    apart = x.mean(0) - y.mean(0)
    a, b = _root(x), _root(y)
    num = max(len(a), len(b))
    a, b = (np.pad(root, ((0, num - len(root)), (0, 0))) for root in (a, b))
    left, _, right = np.linalg.svd(a @ b.T)  # Procrustes: U = left @ right
    return float(np.linalg.norm(apart)), float(np.linalg.norm(a - left @ (right @ b)))


def _root(x: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "R D"]:
    """A with AᵀA the covariance of x; R = min(N, D)."""
    root: Any = np.linalg.qr((x - x.mean(0)) / math.sqrt(len(x) - 1), mode="r")
    return root


def _scalar(value: float) -> Float[Array, ""]:
    return undefined.array(value)
