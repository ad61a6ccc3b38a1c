"""Geometry of the affine hull of a few models, in weights that sum to 1.

A difference of two points of the hull is Σ dᵢ·θᵢ with weights d that sum to 0; its length is
√(dᵀGd) with G the Gram matrix of the models about the first. So only G is computed in
parameter space.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tlx.core import paths, tree
from tlx.core.types import Params

FLAT = 1e-5
"""Below this smallest eigenvalue of their cosines, directions count as dependent (in float32)."""


def gram(models: Sequence[Params]) -> np.ndarray:
    """⟨θᵢ − θ₀, θⱼ − θ₀⟩ over all floating leaves: float64 [m, m], of float32 or wider sums."""
    out = np.zeros((len(models), len(models)))
    for i in range(1, len(models)):
        for j in range(1, i + 1):
            total, exponent = _inner(models[0], models[i], models[j])
            out[i, j] = out[j, i] = np.ldexp(np.float64(total), int(exponent))
    return out


def lengths(of_gram: np.ndarray, differences: np.ndarray) -> np.ndarray:
    """The lengths of differences [..., m], whose weights sum to 0."""
    squares = np.einsum("...i,ij,...j->...", differences, of_gram, differences)
    return np.sqrt(np.maximum(squares, 0))


def check_independent(of_gram: np.ndarray) -> None:
    """Raises unless the models span a simplex: none lies in the affine hull of the others.

    Raises:
      ValueError: naming models that are equal, or the number of independent directions.
    """
    num = len(of_gram)
    basis = np.eye(num)
    for i in range(num):
        for j in range(i):
            if lengths(of_gram, basis[i] - basis[j]) == 0:
                raise ValueError(f"expected models that differ, got equal models {j} and {i}")
    norms = np.sqrt(np.diag(of_gram)[1:])
    cosines = of_gram[1:, 1:] / np.outer(norms, norms)
    rank = int((np.linalg.eigvalsh(cosines) > FLAT).sum())
    if np.isfinite(cosines).all() and rank < num - 1:
        raise ValueError(
            f"expected {num} models of which none lies in the affine hull of the others, got "
            f"{rank} independent directions of {num - 1}; leave out averages of the others"
        )


def uniform(key: jax.Array, num_draws: int, num_models: int) -> np.ndarray:
    """Weights [D, m] uniform on the simplex, Dirichlet(1, …, 1), in float64."""
    draws = np.asarray(jax.random.exponential(key, (num_draws, num_models)), np.float64)
    return draws / draws.sum(1, keepdims=True)


def exits(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The last points in the simplex of the rays from `first` through `second` [D, m].

    The weight that reaches zero is zero exactly, so with two models the exit is a corner.
    """
    ahead = second - first
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where(ahead < 0, first / -ahead, np.inf)
    last = np.argmin(reach, 1)
    rows = np.arange(len(first))
    out = np.maximum(first + reach[rows, last][:, None] * ahead, 0)
    out[rows, last] = 0
    return out / out.sum(1, keepdims=True)


class Scan(NamedTuple):
    """The points: D in the set, then D noisy ones for each of T deltas, then likewise beyond."""

    deltas: np.ndarray
    num_draws: int
    coordinates: Any


def scan(
    models: Sequence[Params], deltas: Any, key: jax.Array, *, num_draws: int, dilation: float
) -> Scan:
    """The draws of `basins.basin`; see there for what is drawn and what raises."""
    deltas = np.asarray(deltas, np.float64)
    _check(models, deltas, num_draws, dilation)
    of_gram = gram(models)
    check_independent(of_gram)
    key_inside, key_first, key_second, key_length, key_noise = jax.random.split(key, 5)
    num_models = len(models)
    inside, first, second = (
        uniform(k, num_draws, num_models) for k in (key_inside, key_first, key_second)
    )
    border = exits(first, second)
    inside, first, border = (  # from the dilated simplex to the models
        dilation * u + (1 - dilation) / num_models for u in (inside, first, border)
    )
    outward = border - first
    outward /= lengths(of_gram, outward)[:, None]
    step = np.abs(np.asarray(jax.random.normal(key_length, (num_draws,)), np.float64))
    beyond = border + deltas[:, None, None] * step[:, None] * outward
    repeats = len(deltas)
    weights = np.concatenate([inside, *[border] * repeats, *beyond])
    size = sum(map(tree.num_reals, jax.tree.leaves(models[0])))
    noise = np.repeat(deltas / math.sqrt(size), num_draws)
    sigma = np.concatenate([np.zeros(num_draws), noise, np.zeros(repeats * num_draws)])
    keys = jnp.tile(jax.random.split(key_noise, num_draws), 1 + 2 * repeats)
    coordinates = (jnp.asarray(weights, float), jnp.asarray(sigma, float), keys)
    return Scan(deltas, num_draws, coordinates)


def _check(models: Sequence[Params], deltas: np.ndarray, num_draws: int, dilation: float) -> None:
    if len(models) < 2:
        raise ValueError(f"expected at least two models, got {len(models)}")
    paths.hull(models)  # raises for models that differ in structure
    good = deltas.ndim == 1 and deltas.size and np.isfinite(deltas).all() and deltas[0] >= 0
    if not good or not (np.diff(deltas) > 0).all():
        raise ValueError(f"expected deltas as increasing numbers from 0, got {deltas.tolist()}")
    if num_draws < 2:
        raise ValueError(f"expected at least 2 draws, got {num_draws}")
    if not 0 < dilation < math.inf:
        raise ValueError(f"expected a dilation above 0, got {dilation}")


@jax.jit
def _inner(origin: Params, a: Params, b: Params) -> tuple[jax.Array, jax.Array]:
    """In units of a power of two, so that no square leaves the range of floats; its exponent."""
    total, of_a, of_b = jnp.zeros((), jnp.result_type(float)), [], []
    for leaves in zip(*map(jax.tree.leaves, (origin, a, b)), strict=True):
        if tree.is_inexact(leaves[0]):
            start, *ends = tree.moving(*leaves)
            of_a.append(ends[0] - start)
            of_b.append(ends[1] - start)
    (of_a, unit_a), (of_b, unit_b) = tree.unit_scale(of_a), tree.unit_scale(of_b)
    for x, y in zip(of_a, of_b, strict=True):
        total += jnp.sum(x * y).astype(total.dtype)
    return total, unit_a + unit_b
