"""Whether the arithmetic of a loss preserves its curvature, tested in float64 on the same outputs.

The second derivative of cross-entropy is p·(1 − p). A loss that forms 1 − p from a rounded p has
only rounding error left of it where a classifier is confident, and the matrix does not show it.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tlx.analyses.landscape import _mean_loss, _operator
from tlx.core import metrics, tree

TOLERANCE = 1e-3
"""The largest relative error of the loss's curvature in its outputs, over all examples."""


def require(mean_loss: _mean_loss.MeanLoss) -> _mean_loss.MeanLoss:
    """The mean loss unchanged, if its curvature in the outputs is accurate in their dtype.

    For each batch the second derivatives in the outputs are multiplied with one random vector, in
    the given dtype and in float64. Losses that cannot be traced in float64 are not tested.

    Raises:
      ValueError: stating the error, and which losses are accurate.

    Cost: a forward pass a batch, and two products of the size of the outputs.
    """
    apart = size = 0.0
    for batch in mean_loss.batches():
        filled = _mean_loss.filled(batch, metrics.mask_of(batch))
        outputs = _outputs(mean_loss.static.apply_fn, mean_loss.params, filled["inputs"])
        leaves = [x for x in jax.tree.leaves((outputs, filled)) if isinstance(x, jax.Array)]
        is_narrow = all(x.dtype == jnp.float32 for x in _operator.floating(outputs))
        if not is_narrow or not all(x.is_fully_addressable for x in leaves):
            return mean_loss  # wider already, rounded further by the model, or over many processes
        narrow, wide = _products(mean_loss.static, *jax.device_get((outputs, filled)))
        if wide is None:
            return mean_loss
        if not (np.isfinite(narrow).all() and np.isfinite(wide).all()):
            continue  # which the products will show
        apart, size = apart + np.sum((narrow - wide) ** 2), size + np.sum(wide**2)
    limits = jnp.finfo(jnp.float32)
    if np.sqrt(apart) > TOLERANCE * np.sqrt(size) + float(limits.tiny) / float(limits.eps):
        name = getattr(mean_loss.static.loss, "__name__", "the loss")
        raise ValueError(
            f"expected a loss whose curvature float32 preserves at these outputs, got {name}: its "
            "second derivatives are wrong by "
            f"{np.sqrt(apart / size) if size else np.inf:.0%}, since the model is so confident "
            "that 1 − p is rounding error. Use tlx.core.metrics.softmax_cross_entropy or "
            "sigmoid_cross_entropy, which preserve it, or float64 parameters with jax.enable_x64"
        )
    return mean_loss


@functools.partial(jax.jit, static_argnums=0)
def _outputs(apply_fn: Any, params: Any, inputs: Any) -> Any:
    return apply_fn(params, inputs)


def _products(
    static: _mean_loss.Static, outputs: Any, batch: Any
) -> tuple[np.ndarray, np.ndarray | None]:
    """The curvature times a random vector, in float32 and in float64."""
    rng = np.random.default_rng(0)
    vector = [rng.standard_normal(x.shape).astype(x.dtype) for x in _operator.floating(outputs)]
    narrow = _joined(_product(static, outputs, batch, vector))
    try:
        with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
            return narrow, _joined(_product(static, *map(_wide, (outputs, batch, vector))))
    except (TypeError, ValueError, RuntimeError):
        return narrow, None


def _wide(values: Any) -> Any:
    return jax.tree.map(
        lambda x: np.asarray(x, np.float64) if tree.is_inexact(x) else np.asarray(x), values
    )


@functools.partial(jax.jit, static_argnums=0)
def _product(static: _mean_loss.Static, outputs: Any, batch: Any, vector: list[Any]) -> list[Any]:
    return _operator.output_product(static, outputs, batch, vector)[1]


def _joined(leaves: list[Any]) -> np.ndarray:
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in leaves])
