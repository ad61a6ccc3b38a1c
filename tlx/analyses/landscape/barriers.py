"""How high the loss rises between two models, and how sure that is."""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tlx.analyses.landscape._checks import vector
from tlx.core import checks, contracts, intervals, public, shown, tree, undefined

__dir__ = public.names(__name__)

KINDS = ("chord", "endpoint_mean")
"""The kinds of barrier; see `barrier`."""

Kind = Literal["chord", "endpoint_mean"] | str


@shown.short
class Barrier(NamedTuple):
    """The barrier along a line.

    Attributes:
      height: float scalar in the unit of the loss; NaN if a loss on the path is NaN.
      alpha: float scalar in [0, 1], the first point with this height; NaN likewise.
    """

    height: Float[Array, ""]
    alpha: Float[Array, ""]


@shown.short
class BarrierInterval(NamedTuple):
    """A barrier with its sampling error over examples.

    Attributes:
      height: float scalar, the barrier of the mean over all examples seen.
      alpha: float scalar in [0, 1], where it is.
      low: float scalar, the lower end of the percentile interval of the height.
      high: float scalar, its upper end.
      bias: float scalar, the mean of the resampled heights less `height`; not negative up to
        Monte Carlo error. See `barrier_interval` for its interpretation.
    """

    height: Float[Array, ""]
    alpha: Float[Array, ""]
    low: Float[Array, ""]
    high: Float[Array, ""]
    bias: Float[Array, ""]


@undefined.allowed
def barrier(alphas: Any, losses: Any, *, kind: Kind) -> Barrier:
    """The loss barrier: the largest rise of the loss along a line above its ends.

    With l(alpha) the loss and the maximum over the given points in [0, 1], ends included:

    - "chord": max over alpha of l(alpha) − [(1 − alpha)·l(0) + alpha·l(1)]. Never negative;
      0 (at alpha 0) where the path stays on or below the chord.
    - "endpoint_mean": max over alpha of l(alpha) − [l(0) + l(1)] / 2. At least
      |l(0) − l(1)| / 2, so unequal losses at the ends appear as a barrier.

    Lower losses are better. For accuracy pass −accuracy or 1 − accuracy (both give the
    same barrier): the height is then the drop of accuracy below its ends.

    Args:
      alphas: float [K], increasing, 0 and 1 among them. Points beyond them are ignored:
        a barrier lies between its ends.
      losses: float [K].
      kind: "chord" or "endpoint_mean".

    Returns:
      `Barrier`, computed in float32 or more. NaN losses on [0, 1] give NaN for both fields,
      an infinite one between finite ends gives an infinite height.

    Raises:
      ValueError: at call, for another kind, lengths that differ, or alphas that do not
        increase or lack 0 or 1 (under `jax.jit` values cannot be read: there the result is
        NaN if 0 or 1 is missing).

    Cost: a few operations a point; no forward pass.

    References: J. Frankle, G. Dziugaite, D. Roy, M. Carbin, Linear mode connectivity and the
    lottery ticket hypothesis, 2020 ("endpoint_mean"); R. Entezari, H. Sedghi, O. Saukh, B.
    Neyshabur, The role of permutation invariance in linear mode connectivity of neural networks,
    2022 ("chord").

    >>> from tlx.analyses import landscape
    >>> landscape.barrier([0.0, 0.5, 1.0], [1.0, 4.0, 3.0], kind="chord")
    Barrier(height=2., alpha=0.5)
    >>> landscape.barrier([0.0, 0.5, 1.0], [1.0, 4.0, 3.0], kind="endpoint_mean").height.item()
    2.0
    """
    check_kind(kind)
    alphas, losses = vector("alphas", alphas), vector("losses", losses)
    if alphas.shape != losses.shape:
        raise ValueError(
            f"expected one loss for each alpha, got {alphas.size} alphas and {losses.size} losses"
        )
    _check_alphas(alphas)
    wide = _wider(alphas.dtype, losses.dtype)
    return _barrier(alphas.astype(wide), losses.astype(wide), kind)


@undefined.allowed
def barrier_interval(
    alphas: Any,
    values: Any,
    *,
    kind: Kind,
    key: Array,
    num_resamples: int = 1000,
    confidence: float = 0.95,
) -> BarrierInterval:
    """The barrier of a mean over examples, with a percentile-bootstrap interval.

    Examples are drawn with replacement, the same ones at all points of the line, and the
    maximum over alpha is taken in each resample. The interval covers the choice of examples
    only, not that of the runs.


    Interpretation: noise can only increase a maximum, so the heights, and with them the
    interval, are too high, by about `bias`. Trust the interval if `bias` is small relative to
    high − low, as it is where the peak is clear of the noise. In simulations with 200 and 1000
    examples, 95 % intervals covered the true height in 93 to 96 % of cases where that ratio is
    below 0.06, in 84 to 94 % between 0.07 and 0.12, and on flat lines (0.13 and more), whose true
    barrier is 0, in 77 % down to 12 %: there compare `low` with a relevant height, not with 0.

    Args:
      alphas: float [K], as for `barrier`.
      values: float [K, N], the loss of each example at each point, from one pass with
        `metrics.collect(per_example, stream.num_examples)`; lower is better, so for accuracy
        pass −accuracy. An example that is NaN at every point on [0, 1] counts as unseen and
        is left out.
      kind: "chord" or "endpoint_mean".
      key: typed PRNG key.
      num_resamples: R.
      confidence: the share of resamples inside the interval, between 0 and 1.

    Returns:
      `BarrierInterval`. All NaN where no example was seen or a value on [0, 1] is NaN or
      infinite; for a single example only `height` and `alpha` are defined and the rest is NaN.

    Raises:
      ValueError: at call, as `barrier`, and for `values` that are not [K, N], a number of
        resamples that is not positive or a confidence outside (0, 1).

    Cost: R·N random numbers and 2·R·N·K flops, in bounded memory (see
    `tlx.core.intervals.resampled_means`).

    References: B. Efron, R. Tibshirani, An introduction to the bootstrap, 1993, chapter 13.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from tlx.analyses import landscape
    >>> ends, middle = jnp.zeros(400), jnp.tile(jnp.array([0.0, 2.0]), 200)  # losses of examples
    >>> found = landscape.barrier_interval(
    ...     [0, 0.5, 1], jnp.stack([ends, middle, ends]), kind="chord", key=jax.random.key(0)
    ... )
    >>> [round(float(x), 1) for x in (found.height, found.low, found.high)]  # 1 ± 2/√400
    [1.0, 0.9, 1.1]
    """
    contracts.typed_key(key)
    check_kind(kind)
    alphas, values = vector("alphas", alphas), jnp.asarray(values)
    if values.ndim != 2 or len(values) != len(alphas):
        raise ValueError(
            f"expected values [K, N] with a row for each of {alphas.size} alphas, got shape "
            f"{values.shape}; collect the loss of each example with metrics.collect"
        )
    _check_alphas(alphas)
    wide = _wider(alphas.dtype, tree.accumulator(values.dtype))
    alphas, values = alphas.astype(wide), values.astype(wide)
    values, num_seen, whole = _whole(alphas, values, kind)
    resampled = intervals.resampled_means(values, num_resamples=num_resamples, key=key)
    heights = _heights(alphas, resampled, kind)
    spread = _spread(num_seen, heights, *intervals.percentile_interval(heights, confidence), whole)
    return BarrierInterval(*whole, *spread)


@functools.partial(jax.jit, static_argnums=2)
def _whole(alphas: Array, values: Array, kind: str) -> tuple[Array, Array, Barrier]:
    """The values on [0, 1], the number of examples seen there, and the barrier of their mean."""
    values = jnp.where(_inside(alphas)[:, None], values, jnp.nan)
    seen = ~jnp.isnan(values).all(0)
    means = jnp.where(seen[None], values, 0).sum(1) / seen.sum().astype(values.dtype)
    whole = _barrier(alphas, jnp.where(jnp.isfinite(means), means, jnp.nan), kind)
    return values, seen.sum(), whole


@jax.jit
def _spread(
    num_seen: Array, heights: Array, low: Array, high: Array, whole: Barrier
) -> list[Array]:
    spread = (low, high, heights.mean() - whole.height)
    return [jnp.where(num_seen > 1, x, jnp.nan) for x in spread]


def check_kind(kind: str) -> None:
    """Raises for an unknown kind of barrier."""
    if kind not in KINDS:
        raise ValueError(checks.unknown("kind of barrier", kind, KINDS))


@functools.partial(jax.jit, static_argnums=2)
def _barrier(alphas: Array, losses: Array, kind: str) -> Barrier:
    left, right = _at(alphas, losses, 0), _at(alphas, losses, 1)
    if kind == "chord":
        reference = (1 - alphas) * left + alphas * right
    else:
        reference = jnp.broadcast_to(left / 2 + right / 2, alphas.shape)
    above = jnp.where(_inside(alphas), losses - reference, -jnp.inf)
    height = jnp.max(above)  # NaN if any value is
    first = alphas[jnp.argmax(above)]
    return Barrier(height, jnp.where(jnp.isnan(height), height, first))


@functools.partial(jax.jit, static_argnums=2)
def _heights(alphas: Array, losses: Array, kind: str) -> Array:
    return jax.vmap(lambda row: _barrier(alphas, row, kind).height)(losses)


def _wider(*dtypes: Any) -> Any:
    with jax.numpy_dtype_promotion("standard"):  # alphas in float64 beside losses in float32
        return jnp.promote_types(*dtypes)


def _inside(alphas: Array) -> Array:
    return (alphas >= 0) & (alphas <= 1)


def _at(alphas: Array, losses: Array, end: int) -> Array:
    here = alphas == end
    return jnp.where(here.any(), losses[jnp.argmax(here)], jnp.nan)


def _check_alphas(alphas: Array) -> None:
    if isinstance(alphas, jax.core.Tracer):
        return
    values = np.asarray(alphas)
    if not (np.diff(values) > 0).all():
        raise ValueError(f"expected alphas that increase, got {values.tolist()}; sort them")
    missing = [end for end in (0, 1) if end not in values]
    if missing:
        raise ValueError(
            "expected both ends, 0 and 1, among the alphas, got "
            f"{values.tolist()}, without {' and '.join(map(str, missing))}"
        )
