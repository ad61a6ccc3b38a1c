"""Sampling error over examples: means of resampled examples, and intervals from them.

Any function of mean losses (a barrier, a difference) is bootstrapped by applying it to each
row of resampled means.
"""

import functools
import statistics
from collections.abc import Iterable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tlx.core import contracts, host, public, tree, undefined

__dir__ = public.names(__name__)

BLOCK = 2**22
"""The maximum number of counts (resamples times examples) held at once."""

Verdict = Literal["yes", "no", "open"]
"""A verdict; "open" where the sampling error allows both."""

SEVERITY: tuple[Verdict, ...] = ("yes", "open", "no")
"""The verdicts, the worst last."""


@undefined.allowed
def resampled_means(values: Any, *, num_resamples: int, key: Array) -> Float[Array, "R K"]:
    """The means of K quantities over examples drawn with replacement, R times.

    A resample draws as many examples as there are, the same for all K quantities, so that
    differences between them keep their (small) sampling error.

    Args:
      values: float [K, N], K quantities of N examples, such as the loss of each example at K
        points of a path (`tlx.core.metrics.collect`). A column that is NaN in every row is
        an example that was not seen, and is left out.
      num_resamples: R; 1000 and more for intervals.
      key: typed PRNG key. Resample r depends on the key and r alone.

    Returns:
      float32 or wider [R, K]. Rows of `values` with a NaN or an infinity among the examples
      seen are NaN, as are fewer than two examples, whose spread is unknown. A row of
      equal values gives that value.

    Raises:
      ValueError: at call, also while tracing: for `values` of other than two axes, or a
        number of resamples that is not positive.

    Numerics: float32 or more, of values centred at their mean, at the highest precision.
    Cost: R·N random numbers and 2·R·N·K flops. Memory: `BLOCK` counts.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from tlx.core import intervals
    >>> losses = jnp.array([[1.0, 5.0, 3.0, 9.0], [2.0, 6.0, 4.0, 10.0]])  # of two models
    >>> means = intervals.resampled_means(losses, num_resamples=1000, key=jax.random.key(0))
    >>> float(means[:, 0].std()) > 0.5, float((means[:, 1] - means[:, 0]).std()) > 1e-5
    (True, False)
    """
    contracts.typed_key(key)
    values = jnp.asarray(values)
    if values.ndim != 2 or (not values.size and not values.shape[0]):
        raise ValueError(f"expected values as an array [K, N], got shape {values.shape}")
    if num_resamples < 1:
        raise ValueError(f"expected at least one resample, got {num_resamples}")
    return _resampled(values.astype(tree.accumulator(values.dtype)), num_resamples, key)


@undefined.allowed
def percentile_interval(samples: Any, confidence: float) -> tuple[Array, Array]:
    """The central interval that holds a share `confidence` of the samples.

    Args:
      samples: float [R, ...], such as a barrier in each of R resamples.
      confidence: between 0 and 1, such as 0.95.

    Returns:
      (low, high), each [...]: the (1 − confidence)/2 and (1 + confidence)/2 quantiles over
      the first axis, linearly interpolated; NaN where a sample is NaN.

    Raises:
      ValueError: at call, if confidence is not between 0 and 1 or there are no samples.

    >>> import jax.numpy as jnp
    >>> from tlx.core import intervals
    >>> low, high = intervals.percentile_interval(jnp.arange(101.0), confidence=0.9)
    >>> round(float(low), 3), round(float(high), 3)
    (5.0, 95.0)
    """
    samples = jnp.asarray(samples)
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, got {confidence}")
    if samples.ndim < 1 or not samples.shape[0]:
        raise ValueError(f"expected samples [R, ...] with R at least 1, got shape {samples.shape}")
    low, high = (jnp.quantile(samples, (1 + side * confidence) / 2, axis=0) for side in (-1, 1))
    return low, high


@host.only
def wilson(
    share: Float[np.ndarray, " L"], count: int, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the Wilson interval for proportions of `count` examples."""
    z2 = statistics.NormalDist().inv_cdf((1 + confidence) / 2) ** 2 / max(count, 1)
    centre = (share + z2 / 2) / (1 + z2)
    half = np.sqrt(z2 * (share * (1 - share) + z2 / 4)) / (1 + z2)
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The combined verdict: "no" before "open" before "yes" ("yes" if there are none)."""
    return max(verdicts, key=SEVERITY.index, default="yes")


@host.only
def verdict(low: Any, high: Any, tolerance: float) -> Verdict:
    """Whether a quantity is at most `tolerance`, as far as its interval shows.

    Args:
      low: scalar, the lower end of the interval.
      high: scalar, its upper end.
      tolerance: the largest value that passes.

    Returns:
      "yes" if the entire interval is at most `tolerance`, "no" if all of it is above, else
      "open", also for an end that is NaN (more examples would decide) or ends in the wrong order.

    >>> from tlx.core import intervals
    >>> [intervals.verdict(low, high, 0.02) for low, high in ((0, 0.01), (0, 0.05), (0.03, 0.05))]
    ['yes', 'open', 'no']
    """
    low, high = float(low), float(high)
    if not low <= high:
        return "open"
    if high <= tolerance:
        return "yes"
    return "no" if low > tolerance else "open"


@functools.partial(jax.jit, static_argnums=1)
def _resampled(values: Array, num_resamples: int, key: Array) -> Array:
    num_examples = values.shape[1]
    seen = ~jnp.isnan(values).all(0)
    count = seen.sum()
    order = jnp.argsort(~seen)  # the examples seen come first
    means = jnp.where(seen[None], values, 0).sum(1) / jnp.maximum(count, 1).astype(values.dtype)
    centred = jnp.where(seen[None], values - means[:, None], 0)
    taken = (jnp.arange(num_examples) < count).astype(values.dtype)

    def one(number: Array) -> Array:
        draws = jax.random.randint(
            jax.random.fold_in(key, number), (num_examples,), 0, jnp.maximum(count, 1)
        )
        counts = jnp.zeros(num_examples, values.dtype).at[order[draws]].add(taken)
        shift = jnp.matmul(centred, counts, precision=jax.lax.Precision.HIGHEST)
        return means + shift / jnp.maximum(count, 1).astype(values.dtype)

    block = max(1, min(num_resamples, BLOCK // max(num_examples, 1)))
    found = jax.lax.map(one, jnp.arange(num_resamples), batch_size=block)
    return jnp.where(count > 1, found, jnp.nan)
