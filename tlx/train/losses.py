"""Training losses with hard or soft targets; per example, and their masked means.

The clean metrics of evaluation are `tlx.core.metrics`; with hard targets the losses here
agree with them.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tlx.core import checks, metrics
from tlx.core.types import Metric


class Loss(NamedTuple):
    """A loss by its parts.

    Attributes:
      targets: `(labels [B, …], num_classes) -> float32 [B, C]`, a one-hot row where labels
        are class numbers.
      per_example: `(logits [B, C], targets [B, C]) -> float32 [B]` in nats.
      right: `(logits [B, C], targets [B, C]) -> float32 [B]` in 0 … 1, the accuracy of
        each example; with soft targets the weight of what was predicted.
      metric: evaluation metric with the results loss, accuracy and count.
    """

    targets: Callable[[Array, int], Array]
    per_example: Callable[[Array, Array], Array]
    right: Callable[[Array, Array], Array]
    metric: Callable[[], Metric]


def one_hot(labels: Int[Array, " B"], num_classes: int) -> Float[Array, "B C"]:
    """Rows with 1 at the label; a row of zeros where the label is not in 0 … C−1.

    Raises:
      ValueError: while tracing, if labels are not [B].
    """
    if labels.ndim != 1:
        raise ValueError(
            f"expected class numbers [B] for loss 'softmax', got {labels.shape}; use loss "
            "'multilabel' for several labels an example"
        )
    return jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)


def multi_hot(labels: Array, num_classes: int) -> Float[Array, "B C"]:
    """The 0/1 labels [B, C] as float32.

    Raises:
      ValueError: while tracing, if labels are not [B, num_classes].
    """
    if labels.ndim != 2 or labels.shape[-1] != num_classes:
        raise ValueError(
            f"expected labels [B, {num_classes}] of 0 and 1 for loss 'multilabel', got "
            f"{labels.shape}; use loss 'softmax' for class numbers [B]"
        )
    return labels.astype(jnp.float32)


def softmax_cross_entropy(
    logits: Float[Array, "B C"], targets: Float[Array, "B C"]
) -> Float[Array, " B"]:
    """`−Σ_c targets·log softmax(logits)` in nats, computed in float32."""
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -jnp.sum(targets * log_p, axis=-1)


def sigmoid_cross_entropy(
    logits: Float[Array, "B C"], targets: Float[Array, "B C"]
) -> Float[Array, " B"]:
    """Binary cross-entropy in nats, averaged over the C labels, computed in float32."""
    logits = logits.astype(jnp.float32)
    return jnp.mean(jax.nn.softplus(logits) - targets * logits, axis=-1)


def top1(logits: Float[Array, "B C"], targets: Float[Array, "B C"]) -> Float[Array, " B"]:
    """The target weight of the largest logit: accuracy, for one-hot targets."""
    best = jnp.argmax(logits, axis=-1)
    return jnp.take_along_axis(targets, best[:, None], axis=-1)[:, 0]


def sides(logits: Float[Array, "B C"], targets: Float[Array, "B C"]) -> Float[Array, " B"]:
    """The share of labels on the right side of probability ½ (logit 0 counts as 1)."""
    return jnp.mean(jnp.where(logits >= 0, targets, 1.0 - targets), axis=-1)


LOSSES = {
    "softmax": Loss(one_hot, softmax_cross_entropy, top1, metrics.classification),
    "multilabel": Loss(multi_hot, sigmoid_cross_entropy, sides, metrics.multilabel),
}


def make_loss(name: str) -> Loss:
    """The loss of a name.

    Raises:
      ValueError: the name is not known; names the nearest.
    """
    if name not in LOSSES:
        raise ValueError(checks.unknown("loss", name, LOSSES))
    return LOSSES[name]


def smoothed(targets: Float[Array, "B C"], share: float) -> Float[Array, "B C"]:
    """`(1 − share)·targets + share / C`, the targets themselves for share 0.

    C. Szegedy et al., Rethinking the inception architecture for computer vision, 2016.
    """
    if not share:
        return targets
    return (1 - share) * targets + share / targets.shape[-1]


def masked_mean(values: Float[Array, " B"], mask: Bool[Array, " B"]) -> Float[Array, ""]:
    """The mean over the rows where `mask` is True; 0 where there are none.

    Masked values change nothing, not even NaN; their gradient is zero as long as they are
    finite.
    """
    return masked_sum(values, mask, jnp.maximum(jnp.sum(mask, dtype=jnp.int32), 1))


def masked_sum(
    values: Float[Array, " B"], mask: Bool[Array, " B"], rows: Int[Array, ""]
) -> Float[Array, ""]:
    """The sum over the rows where `mask` is True, over a number of rows."""
    return jnp.sum(jnp.where(mask, values, jnp.zeros_like(values))) / rows.astype(values.dtype)
