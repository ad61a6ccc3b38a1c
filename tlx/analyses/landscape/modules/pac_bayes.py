"""A PAC-Bayes bound on a network's error from the movement and noise tolerance of its modules.

Derivation. Let P be a distribution over networks that was fixed before the m training examples
were drawn, Q any distribution, L̂ a network's training and L its expected error, both in 0 … 1,
and kl(a‖b) the divergence of two coins. For every function φ, E_Q φ ≤ KL(Q‖P) + ln E_P exp φ
(Donsker and Varadhan). With φ = m·kl(L̂‖L), the mean of exp φ over training sets is at most 2√m
for each network (Maurer 2004), and P does not depend on the examples, so by Markov's inequality
E_P exp φ ≤ 2√m/δ but for a part δ of the training sets. As kl is convex,

    kl(E_Q L̂ ‖ E_Q L) ≤ (KL(Q‖P) + ln(2√m/δ)) / m.                                             (1)

Here Q puts module i at N(θᵢ(α), σᵢ²I), and P at N(θᵢ(0), sᵢ²I), for which

    KLᵢ = ½·(kᵢ·(σᵢ²/sᵢ² − 1 − ln(σᵢ²/sᵢ²)) + dᵢ²/sᵢ²),   dᵢ = ‖θᵢ(α) − θᵢ(0)‖, kᵢ weights.

The best sᵢ² = σᵢ² + dᵢ²/kᵢ would give ½·kᵢ·ln(1 + dᵢ²/(kᵢσᵢ²)), but depends on the examples. So
(1) is required for every sᵢ² = c·exp(−jᵢ/b), jᵢ = 1, 2, …, at once, with the share 6/(π²jᵢ²) of δ
for each module: that adds Σ ln(π²jᵢ²/6) to the divergence, and the best j may be taken. Last, E_Q
L̂ is estimated from D draws: kl(mean of the draws ‖ E_Q L̂) ≤ ln(2/δ')/D except for δ' of the draws
(Chernoff). Everything that determines the output and is not in a KLᵢ must be fixed before the
examples. Running batch statistics are not: for a model with them there is no such bound. By
Pinsker's inequality (1) is within √((KL + …)/2m) of E_Q L̂, the square-root form.

References: A. Maurer, A note on the PAC Bayesian theorem, 2004; J. Langford, R. Caruana, (Not)
bounding the true error, 2001; G. Dziugaite, D. Roy, Computing nonvacuous generalization bounds for
deep (stochastic) neural networks, 2017; N. Chatterji, B. Neyshabur, H. Sedghi, The intriguing role
of module criticality in the generalization of deep networks, 2020.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int

from tlx.core import batch_statistics as statistics_lib
from tlx.core import contracts, evaluate_path, host, metrics, paths, public, shown, streams, tree
from tlx.core import labels as labels_lib
from tlx.core.types import ApplyFn, Labels, Params, PathFn, PerExampleFn, Stream

__dir__ = public.names(__name__)

LARGEST_VARIANCE = 1.0
"""c, of the prior's grid: of sigma² in definition 3.1 of Chatterji et al. (sigma up to 1)."""

STEPS = 100
"""b, of the prior's grid: neighbouring variances differ by 1 %."""


@shown.short
class Bound(NamedTuple):
    """A bound on the expected error of a network with noise, and its parts.

    Attributes:
      value: float, at most 1: E_Q L is at most this with probability 1 − δ − δ′ over training
        sets and draws; 1 is vacuous.
      square_root: float, the square-root form, which is never below `value` and may be above 1.
      noisy_error: float, the mean of the draws, an estimate of E_Q L̂.
      noisy_error_bound: float, the upper bound on E_Q L̂ from the draws.
      divergences: float64 [M], KLᵢ in nats.
      prior_sigmas: float64 [M], sᵢ.
      complexity: float, the upper bound on kl(E_Q L̂ ‖ E_Q L), in nats.
    """

    value: float
    square_root: float
    noisy_error: float
    noisy_error_bound: float
    divergences: Float[np.ndarray, " M"]
    prior_sigmas: Float[np.ndarray, " M"]
    complexity: float


@host.only
def bound(
    noisy_errors: Float[np.ndarray, " D"] | Sequence[float],
    distances: Float[np.ndarray, " M"] | Sequence[float],
    sizes: Int[np.ndarray, " M"] | Sequence[int],
    sigmas: Float[np.ndarray, " M"] | Sequence[float],
    *,
    num_examples: int,
    delta: float = 0.04,
    delta_draws: float = 0.01,
) -> Bound:
    """The PAC-Bayes bound on the error of a network with noise on all modules at once.

    Args:
      noisy_errors: float [D], 0 … 1, the training errors of independent draws of the network
        with every module at its α and with its σ at once: `noisy_errors` measures them.
      distances: float [M], dᵢ, of each module from its start, which must not depend on the
        examples: random weights, or those pretrained on other data.
      sizes: int [M], kᵢ.
      sigmas: float [M], σᵢ, above 1e-12. They may depend on the examples, as the α may.
      num_examples: m, the number of training examples.
      delta: the probability over training sets with which (1) may fail.
      delta_draws: the probability over draws with which their mean may be too far off.

    Returns:
      `Bound`; all NaN if any argument is NaN.

    Raises:
      ValueError: for lengths that differ, no draws, errors outside of 0 … 1, negative distances,
        sizes below 1, sigmas that are not above 1e-12, no examples, or a delta outside of 0 … 1.

    Cost: some operations for each module at up to 5,600 variances of the prior; no forward pass.

    >>> from tlx.analyses.landscape.modules import pac_bayes
    >>> never_wrong = [0.0] * 100
    >>> for distance in (0.1, 10.0):
    ...     found = pac_bayes.bound(
    ...         never_wrong, distances=[distance], sizes=[100], sigmas=[0.1], num_examples=10_000
    ...     )
    ...     print(f"error at most {found.value:.2f}")
    error at most 0.07
    error at most 0.11
    """
    draws = np.asarray(noisy_errors, np.float64)
    d, k, sigma = (np.asarray(x, np.float64) for x in (distances, sizes, sigmas))
    _check(draws, d, k, sigma, num_examples, (delta, delta_draws))
    if np.isnan(np.concatenate([draws, d, k, sigma])).any():
        nothing = np.full(len(d), np.nan)
        nan = math.nan
        return Bound(nan, nan, nan, nan, nothing, nothing, nan)
    farthest = STEPS * np.log(LARGEST_VARIANCE / (sigma**2 + d**2 / k).min(initial=1))
    choices = np.arange(1, max(1, int(farthest) + 1) + 1)[:, None]  # beyond both terms grow
    cost = _divergence(d, k, sigma, choices) + np.log(np.pi**2 * choices**2 / 6)
    j = choices[cost.argmin(0), 0]
    divergences = _divergence(d, k, sigma, j)
    chosen = float(np.log(np.pi**2 * j**2 / 6).sum())
    complexity = float(divergences.sum()) + chosen + math.log(2 * math.sqrt(num_examples) / delta)
    complexity /= num_examples
    mean = float(draws.mean())
    at_most = inverse_kl(mean, math.log(2 / delta_draws) / len(draws))
    return Bound(
        value=inverse_kl(at_most, complexity),
        square_root=at_most + math.sqrt(complexity / 2),
        noisy_error=mean,
        noisy_error_bound=at_most,
        divergences=divergences,
        prior_sigmas=np.sqrt(_variance(j)),
        complexity=complexity,
    )


@host.only
def noisy_errors(
    apply_fn: ApplyFn,
    path_fn: PathFn,
    stream: Stream,
    *,
    labels: Labels,
    modules: Sequence[str],
    alphas: Any,
    sigmas: Any,
    key: Array,
    num_draws: int = 20,
    loss: PerExampleFn = metrics.error,
    chunk: int | Literal["auto"] = "auto",
) -> Float[np.ndarray, " D"]:
    """The errors of random draws of the network, with every module at its α and with its noise.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode.
      path_fn: α to the parameters of the entire model; it is traced.
      stream: the m training examples.
      labels: pytree of str, the module of each leaf.
      modules: all M of them, since the bound is for the entire network.
      alphas: float [M], the position of each, such as from `criticality.criticality`.
      sigmas: float [M], the noise of each.
      key: typed PRNG key.
      num_draws: D, at least 1.
      loss: per-example loss within 0 … 1.
      chunk: draws at a time; see `tlx.core.evaluate_path`.

    Returns:
      float64 [D], the mean loss of each draw; NaN for an empty stream, and where an alpha or a
      sigma is NaN, as for a module without a minimiser.

    Raises:
      ValueError: at call, for modules that are not those of `labels`, alphas and sigmas of
        another length or out of range, fewer than one draw, and for a model with batch
        statistics, which depend on the examples.

    Cost: D forward passes a batch, and the path formed once for each module.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from tlx.analyses import landscape
    >>> from tlx.core import labels, paths, streams
    >>> def apply_fn(params, inputs):
    ...     return params["scale"] ** 2 * inputs @ params["head"]
    >>> model = {"scale": 1.0, "head": jnp.eye(4)}
    >>> found = landscape.noisy_errors(
    ...     apply_fn, paths.line(model, model),
    ...     streams.from_arrays(jnp.eye(4), jnp.array([0, 1, 2, 0]), batch_size=4),
    ...     labels=labels.from_names(model, str), modules=["scale", "head"],
    ...     alphas=[1, 1], sigmas=[1.0, 0.0], key=jax.random.key(0), num_draws=3,
    ... )
    >>> found.tolist()  # any scale gives the same answers
    [0.25, 0.25, 0.25]
    """
    contracts.typed_key(key)
    known = labels_lib.unique(labels)
    if sorted(modules) != sorted(known):
        raise ValueError(
            f"expected modules to be every label once, {', '.join(known)}, got "
            f"{', '.join(modules)}; the bound is for the entire network"
        )
    alphas, sigmas = (np.asarray(x, np.float64) for x in (alphas, sigmas))
    if not alphas.shape == sigmas.shape == (len(modules),):
        raise ValueError(
            f"expected an alpha and a sigma for each of {len(modules)} modules, got shapes "
            f"{alphas.shape} and {sigmas.shape}"
        )
    if num_draws < 1:
        raise ValueError(f"expected num_draws of at least 1, got {num_draws}")
    if ((alphas < 0) | (alphas > 1) | (sigmas < 0)).any():
        raise ValueError(
            "expected alphas within 0 … 1 and sigmas of at least 0, got "
            f"{alphas.tolist()} and {sigmas.tolist()}"
        )
    first, stream = streams.peek(stream)
    if first is None or not np.isfinite(alphas + sigmas).all():
        return np.full(num_draws, np.nan)
    number = {module: i for i, module in enumerate(modules)}
    places = [number[label] for label in jax.tree.leaves(labels)]
    mean = _mean(path_fn, places, alphas)
    if statistics_lib.checked_leaves(apply_fn, mean, first["inputs"]):
        raise ValueError(
            "expected a model without batch statistics, got one with them: they depend on the "
            "training examples and are in no module's divergence, so the bound does not hold"
        )
    scales = jax.tree.unflatten(jax.tree.structure(mean), [sigmas[i] for i in places])
    noisy = Partial(_noisy, mean, jax.tree.map(lambda s: jnp.asarray(s, float), scales))
    keys = jax.random.split(key, num_draws)
    found = evaluate_path(apply_fn, metrics.mean(loss), noisy, keys, stream, chunk=chunk)
    return np.asarray(found, np.float64)


def _mean(path_fn: PathFn, places: Sequence[int], alphas: np.ndarray) -> Params:
    """Each leaf at its module's place."""
    leaves: dict[int, Any] = {}
    treedef: Any = None
    for module, alpha in enumerate(alphas):  # a model at a time, of which one module is kept
        at, treedef = jax.tree.flatten(paths.at(path_fn, jnp.asarray(alpha, float)))
        leaves |= {n: at[n] for n, place in enumerate(places) if place == module}
    return jax.tree.unflatten(treedef, [leaves[n] for n in range(len(places))])


def _noisy(mean: Params, scales: Params, key: Array) -> Params:
    """The draw of a key: each leaf with noise of its module's scale."""
    noise = paths.standard_normal(key, mean)
    return jax.tree.map(tree.add, mean, noise, scales)


@host.only
def inverse_kl(a: float, nats: float) -> float:
    """The largest b in a … 1 with kl(a‖b) ≤ nats, kl(a‖b) = a ln(a/b) + (1−a) ln((1−a)/(1−b)).

    By bisection, to rounding; NaN where an argument is.
    """
    if math.isnan(a) or math.isnan(nats):
        return math.nan
    low, high = a, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        if _kl(a, middle) > nats:
            high = middle
        else:
            low = middle
    return high


def _kl(a: float, b: float) -> float:
    """kl(a‖b) for a ≤ b ≤ 1."""
    if b >= 1:
        return math.inf if a < 1 else 0.0
    first = a * math.log(a / b) if a > 0 else 0.0
    return first + (1 - a) * math.log((1 - a) / (1 - b))


def _variance(j: np.ndarray) -> np.ndarray:
    return LARGEST_VARIANCE * np.exp(-j / STEPS)


def _divergence(d: np.ndarray, k: np.ndarray, sigma: np.ndarray, j: np.ndarray) -> np.ndarray:
    ratio = sigma**2 / _variance(j)
    return (k * (ratio - 1 - np.log(ratio)) + d**2 / _variance(j)) / 2


def _check(
    draws: np.ndarray,
    d: np.ndarray,
    k: np.ndarray,
    sigma: np.ndarray,
    num_examples: int,
    deltas: tuple[float, float],
) -> None:
    if (
        draws.ndim != 1
        or not draws.size
        or not ((draws >= 0) & (draws <= 1) | np.isnan(draws)).all()
    ):
        raise ValueError(f"expected noisy_errors as a vector of errors within 0 … 1, got {draws}")
    if not d.shape == k.shape == sigma.shape or d.ndim != 1:
        raise ValueError(
            "expected one distance, size and sigma for each module, got shapes "
            f"{d.shape}, {k.shape} and {sigma.shape}"
        )
    for name, values, least in (
        ("distances", d, d >= 0),
        ("sizes", k, k >= 1),
        ("sigmas", sigma, sigma > 1e-12),
    ):
        if not (least | np.isnan(values)).all():
            raise ValueError(f"expected {name} in range, got {values.tolist()}")
    if num_examples < 1 or not all(0 < x < 1 for x in deltas):
        raise ValueError(
            "expected at least one example and deltas between 0 and 1, got "
            f"{num_examples} and {deltas}"
        )
