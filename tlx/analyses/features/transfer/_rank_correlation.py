"""Rank correlations of scores of models with measured values, with permutation p-values."""

import itertools
import math
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from tlx.core import contracts, host, shown, undefined

_PAIRS = 2**21  # at a time: 16 MiB
_EXACT = 8  # 8! = 40320 orders


@shown.short
class RankCorrelation(NamedTuple):
    """Rank correlations between scores of n models and measured values.

    All are NaN for fewer than 3 models, NaN values, and where all scores or all measured values
    are equal. A p-value is the share of orders of the measured values that correlate as much or
    more: one-sided.

    Attributes:
      weighted_tau: scalar, −1 … 1, Kendall's tau with more weight on the best models.
      kendall: scalar, −1 … 1, Kendall's tau-b.
      spearman: scalar, −1 … 1, the correlation of ranks.
      p_weighted_tau: scalar, 0 … 1.
      p_kendall: scalar, 0 … 1.
      p_spearman: scalar, 0 … 1.
      num_models: n.
    """

    weighted_tau: Float[Array, ""]
    kendall: Float[Array, ""]
    spearman: Float[Array, ""]
    p_weighted_tau: Float[Array, ""]
    p_kendall: Float[Array, ""]
    p_spearman: Float[Array, ""]
    num_models: int


@host.only
def rank_correlation(
    scores: Any, measured: Any, *, key: Array | None = None, num_draws: int = 9999
) -> RankCorrelation:
    """The rank correlations of scores with measured values, with permutation p-values.

    τ = Σ_ij w_ij sgn(x_i − x_j) sgn(y_i − y_j) / √(Σ w_ij sgn²(x_i − x_j)·Σ w_ij sgn²(y_i − y_j)),
    w = 1 for Kendall's tau-b. For the weighted one w_ij = 1/r_i + 1/r_j with r the rank from the
    largest, 1, by the scores (ties by the measured values); it is the mean of that and of τ with
    ranks by the measured values (ties by the scores).

    Args:
      scores: float [n], one per model; infinite ones are ranked like others.
      measured: float [n], such as accuracies after fine-tuning; larger is better in both.
      key: typed PRNG key, needed for more than 8 models; up to 8, all n! orders are counted.
      num_draws: R random orders, for more than 8 models.

    Returns:
      `RankCorrelation`. The smallest possible p-value is 1/n!, for 3 models 0.17, and
      1/(R + 1) with draws, which include the observed order.

    Raises:
      ValueError: unless both are vectors of one length, for more than 8 models without a key,
        or fewer than one draw.
      TypeError: for a key that is not typed.

    Numerics: float64 on the host.
    Cost: 20·n² operations for each order; 0.2 s at 8 models.

    References: M. Kendall, The treatment of ties in ranking problems, 1945; S. Vigna, A weighted
    correlation index for rankings with ties, 2015.

    >>> from tlx.analyses.features.transfer import transferability
    >>> found = transferability.rank_correlation([1.0, 2.0, 3.0, 4.0], [0.6, 0.7, 0.8, 0.9])
    >>> float(found.kendall), round(float(found.p_kendall), 3)  # 1 of 4! orders
    (1.0, 0.042)
    """
    x, y = (np.asarray(v).astype(np.float64) for v in (scores, measured))
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(
            "expected scores [n] and measured values [n] of the same models, "
            f"got shapes {x.shape} and {y.shape}"
        )
    _check_draws(len(x), key, num_draws)
    if len(x) < 3 or np.isnan([x, y]).any() or any((v == v[0]).all() for v in (x, y)):
        return _result([math.nan] * 6, len(x))
    x, y = _ranks(x), _ranks(y)
    found = correlations(x, y, np.arange(len(x))[None])
    null = correlations(x, y, _orders(len(x), key, num_draws))
    count = (null >= found - 1e-12).sum(1)
    drawn = int(len(x) > _EXACT)
    p_values = (count + drawn) / (null.shape[1] + drawn)
    return _result([*found[:, 0], *p_values], len(x))


def _check_draws(num_models: int, key: Array | None, num_draws: int) -> None:
    if num_draws < 1:
        raise ValueError(f"expected at least one draw, got {num_draws}")
    if key is None and num_models > _EXACT:
        raise ValueError(
            f"expected a key for {num_models} models, got None: the orders of more than {_EXACT} "
            "are drawn; pass key=jax.random.key(0)"
        )
    if key is not None:
        contracts.typed_key(key)


def _orders(num: int, key: Array | None, num_draws: int) -> Int[np.ndarray, "R n"]:
    if key is None or num <= _EXACT:
        return np.array(list(itertools.permutations(range(num))))
    return np.asarray(jax.random.bits(key, (num_draws, num))).argsort(1)


def _result(values: list[float], num_models: int) -> RankCorrelation:
    a, b, c, p_a, p_b, p_c = map(undefined.array, values)
    return RankCorrelation(a, b, c, p_a, p_b, p_c, num_models)


def correlations(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], orders: Int[np.ndarray, "R n"]
) -> Float[np.ndarray, "3 R"]:
    """Weighted tau, Kendall's tau-b and Spearman's rho of ranks x with y[order]."""
    parts = np.array_split(orders, math.ceil(orders.size * len(x) / _PAIRS))
    return np.concatenate([_of_rows(x, y[part]) for part in parts], 1)


def _of_rows(x: np.ndarray, y: Float[np.ndarray, "R n"]) -> np.ndarray:
    x = np.broadcast_to(x, y.shape)
    pairs_x, pairs_y = (np.sign(v[:, :, None] - v[:, None, :]) for v in (x, y))
    by_x, by_y = (_tau(pairs_x, pairs_y, _weights(*both)) for both in ((x, y), (y, x)))
    plain = _tau(pairs_x, pairs_y, np.ones_like(pairs_x))
    u, v = (z - z.mean(1, keepdims=True) for z in (x, y))
    rho = (u * v).sum(1) / np.sqrt(np.square(u).sum(1) * np.square(v).sum(1))
    return np.stack([(by_x + by_y) / 2, plain, rho])


def _weights(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """1/rank + 1/rank' of the pairs, rank 1 the largest by `first`, then by `second`."""
    order = np.lexsort((second, first))[:, ::-1]
    weight = np.empty(first.shape)
    np.put_along_axis(weight, order, 1 / np.arange(1, first.shape[1] + 1)[None], 1)
    return weight[:, :, None] + weight[:, None, :]


def _tau(pairs_x: np.ndarray, pairs_y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    both, of_x, of_y = (
        (weights * a * b).sum((1, 2))
        for a, b in ((pairs_x, pairs_y), (pairs_x, pairs_x), (pairs_y, pairs_y))
    )
    return both / np.sqrt(of_x * of_y)


def _ranks(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The ranks from 1, the smallest; equal values have the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean: Float[np.ndarray, " n"] = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return mean
