"""Sharpness: how far the loss rises in a ball around a model."""

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tlx.analyses.landscape import _mean_loss
from tlx.core import contracts, host, public, shown, tree
from tlx.core.tree import unit_scale
from tlx.core.types import ApplyFn, Batch, Labels, Params, PerExampleFn, Stream

__dir__ = public.names(__name__)


@shown.short
class Sharpness(NamedTuple):
    """The rise of the loss in a ball: a lower bound.

    Attributes:
      value: float64 scalar, at least 0: the largest loss reached minus the loss of the model.
        NaN if a loss on the way is NaN.
      losses: float64 [R, T + 1], the mean loss at the points of each ascent. The first of
        each row is the model's.
      perturbation: pytree like the parameters, what is added at the point with the largest
        loss (or the first NaN); zero in the leaves that do not vary.
    """

    value: float
    losses: Float[np.ndarray, "R T1"]
    perturbation: Params


@host.only
def in_ball(
    apply_fn: ApplyFn,
    loss: PerExampleFn,
    params: Params,
    stream: Stream,
    *,
    radius: float,
    key: Array,
    adaptive: bool = False,
    steps: int = 20,
    restarts: int = 3,
    labels: Labels | None = None,
    modules: Iterable[str] | str | None = None,
) -> Sharpness:
    """The rise of the mean loss in an l2 ball, max of L(w + δ) − L(w), by gradient ascent.

    The ball is ‖δ‖ ≤ radius, or, adaptive, ‖δ / |w|‖ ≤ radius element by element: then
    rescaling the weights so that the function stays the same, as between the layers of a ReLU
    net, does not change the result (a weight that is 0 stays 0). Batch statistics stay as
    they are, as in evaluation mode.

    Each ascent makes `steps` moves: the first of the first one goes along the gradient to the
    sphere, the first of the others to a random point of it; move k = 1, 2, … goes
    radius·(1 − k / steps) along the gradient's direction and back into the ball. A larger loss
    may exist: the value is a lower bound, which more steps and restarts tighten.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode.
      loss: `(outputs, batch) -> float [B]`, such as `tlx.core.metrics.softmax_cross_entropy`.
      params: pytree of arrays. Floating leaves vary, of complex ones the real and imaginary
        part of each number, next to each other; others and batch statistics do not.
      stream: batches of constant shape.
      radius: at least 0; without unit if adaptive, else that of the parameters.
      key: typed PRNG key.
      adaptive: whether the ball is elementwise.
      steps: T, moves of an ascent, at least 1.
      restarts: R, the number of ascents, the one along the gradient included; at least 1.
      labels: pytree of str, the module of each leaf; None for all leaves.
      modules: only the leaves of these vary.

    Returns:
      `Sharpness`; 0 for radius 0 or where the loss falls in every direction tried.

    Raises:
      ValueError: at call, for a radius, steps or restarts out of range, an unknown module,
        where no floating leaf varies, or for a stream without examples.

    Numerics: sums in float32 or more; a point is rounded to the parameters' dtypes.
    Cost: 1 + R·T losses with their gradients over the stream, about 3 forward passes each.
      Batches stay on the device if they take at most 1 GiB.
    References: Foret et al. 2021, "Sharpness-aware minimization for efficiently improving
      generalization"; Kwon et al. 2021, "ASAM: adaptive sharpness-aware minimization";
      Andriushchenko et al. 2023, "A modern look at the relationship between sharpness and
      generalization".

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from tlx.analyses import landscape
    >>> from tlx.core import metrics, streams
    >>> def apply_fn(params, inputs):
    ...     return params["u"] * params["v"] * inputs
    >>> task = (apply_fn, metrics.squared_error)
    >>> stream = streams.from_arrays(jnp.ones(4), jnp.ones(4), batch_size=4)
    >>> for model in ({"u": 1.0, "v": 1.0}, {"u": 10.0, "v": 0.1}):  # one function
    ...     ball = {"radius": 0.1, "key": jax.random.key(0)}
    ...     plain = landscape.sharpness.in_ball(*task, model, stream, **ball)
    ...     adaptive = landscape.sharpness.in_ball(*task, model, stream, **ball, adaptive=True)
    ...     print(round(plain.value, 2), round(adaptive.value, 2))
    0.02 0.02
    1.0 0.02
    """
    contracts.typed_key(key)
    _check(radius, steps, restarts)
    mean_loss = _mean_loss.make(apply_fn, loss, params, stream, labels, modules)
    at = mean_loss.leaves
    scale = _scale(at, adaptive)
    ball = jnp.asarray(radius, mean_loss.dtype)
    losses = np.empty((restarts, steps + 1))
    centre = jax.tree.map(jnp.zeros_like, at)
    losses[:, 0], first = mean_loss.mean(_loss_and_gradient, at)
    worst, best = float(losses[0, 0]), centre
    for i, start in enumerate(jax.random.split(key, restarts)):
        direction = _random(start, at) if i else _times(scale, first)
        point = _move(centre, direction, ball, ball)
        for k in range(1, steps + 1):
            losses[i, k], gradient = mean_loss.mean(_loss_and_gradient, _at(at, scale, point))
            if losses[i, k] > worst or np.isnan(losses[i, k]) > np.isnan(worst):
                worst, best = float(losses[i, k]), point
            point = _move(point, _times(scale, gradient), ball * (1 - k / steps), ball)
    perturbation = mean_loss.alone(_times(scale, best))
    return Sharpness(worst - float(losses[0, 0]), losses, perturbation)


@functools.partial(jax.jit, static_argnums=1)
def _scale(at: list[Array], adaptive: bool) -> list[Array]:
    """The ball's half-widths over its radius; an infinity (of a mask) stays."""
    size = [jnp.abs(x) if adaptive else jnp.ones_like(x) for x in at]
    return [jnp.where(jnp.isfinite(x), x, 0) for x in size]


_times = jax.jit(lambda x, y: jax.tree.map(jnp.multiply, x, y))
_at = jax.jit(lambda at, scale, point: jax.tree.map(lambda a, s, x: a + s * x, at, scale, point))


@jax.jit
def _random(key: Array, like: list[Array]) -> list[Array]:
    keys = jax.random.split(key, len(like))
    return [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, like, strict=True)]


@jax.jit
def _move(point: list[Array], direction: list[Array], length: Array, radius: Array) -> list[Array]:
    """A step of a length along a direction, and back into the ball; none along zero."""
    direction = unit_scale(direction)[0]  # a gradient of 1e-25 is one
    norm = tree.norm(direction)
    step = jax.tree.map(lambda x: jnp.where(norm > 0, x / norm, 0) * length, direction)
    point = jax.tree.map(jnp.add, point, step)
    outside = tree.norm(point) / radius
    return jax.tree.map(lambda x: jnp.where(outside > 1, x / outside, x), point)


def _loss_and_gradient(
    static: _mean_loss.Static, params: Params, batch: Batch, at: list[Array]
) -> tuple[Array, list[Array]]:
    found = jax.value_and_grad(_mean_loss.value, argnums=3)(static, params, batch, at)
    return found[0], _mean_loss.placed(static, found[1])


def _check(radius: Any, steps: int, restarts: int) -> None:
    if not 0 <= radius < np.inf:
        raise ValueError(f"expected a radius of at least 0, got {radius}")
    for name, number in (("steps", steps), ("restarts", restarts)):
        if number < 1:
            raise ValueError(f"expected {name} of at least 1, got {number}")
