"""Module criticality: how far each module can be moved back to its start, and under what noise.

References: N. Chatterji, B. Neyshabur, H. Sedghi, The intriguing role of module criticality in the
generalization of deep networks, 2020, definition 3.1; B. Neyshabur, H. Sedghi, C. Zhang, What is
being transferred in transfer learning?, 2020, section 3.6 and figure 6.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Bool, Float, Int

from tlx.analyses.landscape import _checks, _losses
from tlx.analyses.landscape.modules import _module_sweep
from tlx.core import batch_statistics as statistics_lib
from tlx.core import checks, contracts, host, paths, public, sharding, shown, streams, tree
from tlx.core.types import ApplyFn, Labels, Params, PathFn, PerExampleFn, Stream

__dir__ = public.names(__name__)

LOSSES = _losses.LOSSES
"""The losses of a classifier: "loss", cross-entropy in nats, and "error", the 0-1 error."""


@shown.short
class Surface(NamedTuple):
    """The loss with one module at a time moved back along a path and perturbed by noise.

    Attributes:
      modules: the M modules.
      alphas: float [A], positions on the path, 0 its start and 1 the trained module.
      sigmas: float [S], standard deviation of the noise on each weight.
      losses: loss name to float64 [M, A, S], the mean over the draws of the noise.
      errors: likewise, its standard error over the draws; 0 where sigma is 0, NaN elsewhere for
        one draw. It does not include the error from the finite set of examples.
      trained: loss name to float, that of the trained model.
      distances: float64 [M, A], from the path's start, ‖θ(α) − θ(0)‖, batch statistics left out.
      sizes: int64 [M], the floating weights k of a module, batch statistics left out; a complex
        one counts twice.
      num_draws: of the noise.
      statistics: the source of the batch statistics: "none", "interpolated" or "re-estimated".
    """

    modules: tuple[str, ...]
    alphas: Float[np.ndarray, " A"]
    sigmas: Float[np.ndarray, " S"]
    losses: dict[str, Float[np.ndarray, "M A S"]]
    errors: dict[str, Float[np.ndarray, "M A S"]]
    trained: dict[str, float]
    distances: Float[np.ndarray, "M A"]
    sizes: Int[np.ndarray, " M"]
    num_draws: int
    statistics: str


@host.only
def surface(
    apply_fn: ApplyFn,
    path_fn: PathFn,
    stream: Stream,
    *,
    labels: Labels,
    alphas: Any,
    sigmas: Any,
    key: Array,
    losses: Mapping[str, PerExampleFn] = LOSSES,
    num_draws: int = 5,
    modules: Sequence[str] | None = None,
    statistics: Stream | str | None = None,
    chunk: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Surface:
    """The losses at path(α) + N(0, σ²) of each module, all others at path(1), on a grid.

    The path determines the question: `paths.line(initial, trained)` is the direct path from random
    or pretrained weights (or any other model), `paths.polygon(checkpoints)` the path of the
    optimiser. All points of a module share the noise of a draw, scaled by σ, so that
    neighbouring points do not differ by chance; batch statistics get no noise.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode.
      path_fn: α to the parameters of the entire model, exact at 0 and 1; it is traced.
      stream: the examples, usually those that the model was trained on.
      labels: pytree of str, the module of each leaf.
      alphas: float [A], in 0 … 1.
      sigmas: float [S], at least 0.
      key: typed PRNG key.
      losses: per-example losses by name, lower is better.
      num_draws: D, of the noise, at least 1.
      modules: those to move; None for all, in the order of their first leaf.
      statistics: where a model's batch statistics come from: "interpolate" (a module's move with
        it), a stream of training batches (re-estimated at each point, full forward passes),
        or None for a model without any.
      chunk: points at a time; see `tlx.core.sweeps.evaluate_modules`.
      progress: called with (draws done, draws).

    Returns:
      `Surface`; losses are NaN for an empty stream. A module that the output does not depend on
      has the trained model's loss everywhere.

    Raises:
      ValueError: at call, for alphas or sigmas out of range or without one value, fewer than one
        draw, no module or an unknown one, labels of another structure, batch statistics that
        cannot be distinguished from weights, and as `batch_statistics.along`.

    Numerics: points in float32 or more, means over draws in float64.
    Cost: D passes over the data; a batch takes D forward passes and D·A·S times what depends on
    each module. Memory: beside the path a draw of noise (P weights), and see `evaluate_modules`.
    """
    contracts.typed_key(key)
    alphas, sigmas = _grid(alphas, sigmas, num_draws)
    path_fn = paths.traceable(path_fn)
    trained = paths.at(path_fn, jnp.ones((), float))
    chosen = _module_sweep.chosen(trained, labels, modules)
    first, stream = streams.peek(stream)
    still = (
        statistics_lib.checked_leaves(apply_fn, trained, first["inputs"]) if first else frozenset()
    )
    metric = _losses.mean_of_each(tuple(losses.items()))
    at_end, rule = statistics_lib.along(
        apply_fn, metric, path_fn, jnp.ones(1), stream, source=statistics
    )
    grid = [jnp.asarray(x, float).ravel() for x in np.meshgrid(alphas, sigmas, indexing="ij")]
    draws, places = [], sharding.places(trained)
    for i, of_draw in enumerate(jax.random.split(key, num_draws)):
        noise = _noise(of_draw, trained, still, places)
        found, _ = _module_sweep.along(
            apply_fn, metric, paths.shifted(path_fn, noise), tuple(grid), trained, stream,
            labels=labels, modules=chosen, statistics=statistics, chunk=chunk,
        )  # fmt: skip
        draws.append([found[module] for module in chosen])
        if progress is not None:
            progress(i + 1, num_draws)
    shape = (num_draws, len(chosen), len(alphas), len(sigmas))
    values = {
        name: np.array([[at[name] for at in draw] for draw in draws], np.float64).reshape(shape)
        for name in losses
    }
    members = _members(trained, labels, chosen, still)
    counts = np.array([tree.num_reals(leaf) for leaf in jax.tree.leaves(trained)], int)
    return Surface(
        modules=chosen,
        alphas=alphas,
        sigmas=sigmas,
        losses={name: v.mean(0) for name, v in values.items()},
        errors={name: _standard_error(v, sigmas) for name, v in values.items()},
        trained={name: float(at_end[name][0]) for name in losses},
        distances=_moved(path_fn, alphas, members),
        sizes=members @ counts,
        num_draws=num_draws,
        statistics=rule,
    )


@shown.short
class Criticality(NamedTuple):
    """The criticality of each module at a threshold of the loss.

    Attributes:
      modules: the M modules.
      loss: the name of the loss.
      threshold: epsilon.
      values: float64 [M], mu: 0 for a module that can stay at its start, infinite where no point
        of the grid with noise has a loss up to the threshold (smaller sigmas are needed, or the
        trained model's loss is above it), NaN where all of a module's losses are NaN.
      alpha: float64 [M], the position on the path at the minimum; NaN where there is none.
      sigma: float64 [M], the noise there.
      total: float, the sum over the modules, the network's criticality.
    """

    modules: tuple[str, ...]
    loss: str
    threshold: float
    values: Float[np.ndarray, " M"]
    alpha: Float[np.ndarray, " M"]
    sigma: Float[np.ndarray, " M"]
    total: float


@host.only
def criticality(of: Surface, threshold: float, *, loss: str = "error") -> Criticality:
    """The least ‖θ(α) − θ(0)‖² / σ² at which a module's expected loss is within the threshold.

    On the direct path this is min {α²‖θ¹ − θ⁰‖² / σ² : E_u L(θ(α) + u) ≤ epsilon}, over the
    points of the grid with σ > 0: twice the divergence KL(N(θ(α), σ²I) ‖ N(θ⁰, σ²I)). Of equal
    minima the one at the largest σ is taken. A finer grid can only lower it.

    Args:
      of: from `surface`, which can be reused for another threshold.
      threshold: epsilon, in the loss's unit; that of the trained model and a little more.
        Compared in float32, as the losses are computed.
      loss: which of the surface's losses; the 0-1 error is the authors' choice.

    Returns:
      `Criticality`.

    Raises:
      ValueError: for a loss that the surface does not have, a threshold that is not finite, or a
        surface without a positive sigma.

    Cost: a read of the surface.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from tlx.analyses.landscape.modules import criticality
    >>> from tlx.core import labels, metrics, paths, streams
    >>> def apply_fn(params, inputs):
    ...     return (params["gain"] + 0 * params["idle"]) * inputs
    >>> start, trained = {"gain": 0.0, "idle": 0.0}, {"gain": 2.0, "idle": 5.0}
    >>> surface = criticality.surface(
    ...     apply_fn, paths.line(start, trained),
    ...     streams.from_arrays(jnp.ones(4), 2 * jnp.ones(4), batch_size=4),
    ...     labels=labels.from_names(trained, str), alphas=[0, 1], sigmas=[0.1],
    ...     losses={"loss": metrics.squared_error}, key=jax.random.key(0),
    ... )
    >>> found = criticality.criticality(surface, 1.0, loss="loss")
    >>> dict(zip(found.modules, found.values.round(1).tolist(), strict=True))  # (2 / 0.1)², 0
    {'gain': 400.0, 'idle': 0.0}
    """
    if loss not in of.losses:
        raise ValueError(checks.unknown("loss of the surface", loss, of.losses))
    if not np.isfinite(threshold):
        raise ValueError(f"expected a finite threshold, got {threshold}")
    noisy = of.sigmas > 0
    if not noisy.any():
        raise ValueError(
            "expected a surface with a sigma above 0, got none: criticality divides by it"
        )
    sigmas, losses = of.sigmas[noisy], of.losses[loss][:, :, noisy]
    # in float32, as the losses were computed: 0.1 of them is not above 0.1
    is_low = losses.astype(np.float32) <= np.float32(threshold)
    cost = np.where(is_low, (of.distances[:, :, None] / sigmas) ** 2, np.inf)
    order = np.argsort(-sigmas)  # argmin takes the first of equals
    flat = cost[:, :, order].transpose(0, 2, 1).reshape(len(cost), -1)
    best = flat.argmin(1)
    values = flat[np.arange(len(flat)), best]
    undefined = np.isnan(losses).all((1, 2))
    values = np.where(undefined, np.nan, values)
    none = ~np.isfinite(values)
    sigma = np.where(none, np.nan, sigmas[order][best // len(of.alphas)])
    alpha = np.where(none, np.nan, of.alphas[best % len(of.alphas)])
    return Criticality(
        of.modules, loss, float(threshold), values, alpha, sigma, float(values.sum())
    )


def _grid(alphas: Any, sigmas: Any, num_draws: int) -> tuple[np.ndarray, np.ndarray]:
    alphas, sigmas = (
        np.asarray(_checks.finite_vector(name, values), np.float64)
        for name, values in (("alphas", alphas), ("sigmas", sigmas))
    )
    if alphas.min() < 0 or alphas.max() > 1:
        raise ValueError(f"expected alphas within 0 … 1, got {alphas.tolist()}")
    if sigmas.min() < 0:
        raise ValueError(f"expected sigmas of at least 0, got {sigmas.tolist()}")
    if num_draws < 1:
        raise ValueError(f"expected num_draws of at least 1, got {num_draws}")
    return alphas, sigmas


@functools.partial(jax.jit, static_argnums=(2, 3))
def _noise(
    key: Array, params: Params, still: frozenset[str], places: tuple[NamedSharding, ...] = ()
) -> Params:
    drawn = paths.standard_normal(key, params)
    drawn = tree.map_named(lambda name, x: jnp.zeros_like(x) if name in still else x, drawn)
    return sharding.at_places(drawn, places)


def _members(
    params: Params, labels: Labels, modules: Sequence[str], still: frozenset[str]
) -> Bool[np.ndarray, "M leaves"]:
    """Whether a leaf holds weights of a module."""
    weights = [
        tree.is_inexact(leaf) and name not in still
        for name, leaf in tree.named_leaves(params).items()
    ]
    flat = jax.tree.leaves(labels)
    return np.array([[label == module for label in flat] for module in modules]) & weights


def _moved(path_fn: PathFn, alphas: np.ndarray, members: np.ndarray) -> Float[np.ndarray, "M A"]:
    """The distance of each module from the path's start."""
    start = paths.at(path_fn, jnp.zeros((), float))
    of_leaves = []
    for alpha in alphas:
        found = _squares(paths.at(path_fn, jnp.asarray(alpha, float)), start)
        numbers, exponents = np.array(jax.device_get(found), np.float64).reshape(-1, 2).T
        of_leaves.append(np.ldexp(numbers, 2 * exponents.astype(int)))
    return np.sqrt(members @ np.stack(of_leaves, 1))


@jax.jit
def _squares(point: Params, start: Params) -> list[tuple[Array, Array]]:
    """‖point − start‖² of each leaf, 0 where it is not floating, over 4^exponent; the exponent."""
    pairs = zip(jax.tree.leaves(point), jax.tree.leaves(start), strict=True)
    return [
        _square(*tree.moving(*pair)) if tree.is_inexact(pair[0]) else (jnp.zeros(()), jnp.zeros(()))
        for pair in pairs
    ]


def _square(x: Array, y: Array) -> tuple[Array, Array]:
    scaled, exponent = tree.unit_scale(x - y)
    return jnp.sum(jnp.square(scaled)), exponent


def _standard_error(draws: np.ndarray, sigmas: np.ndarray) -> Float[np.ndarray, "M A S"]:
    """Of the mean over the first axis; without noise there is none."""
    if len(draws) == 1:
        return np.broadcast_to(np.where(sigmas > 0, np.nan, 0.0), draws.shape[1:])
    return np.where(sigmas > 0, draws.std(0, ddof=1) / np.sqrt(len(draws)), 0.0)
