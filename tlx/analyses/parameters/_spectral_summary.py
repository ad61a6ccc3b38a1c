"""Summaries of singular values: norms, ranks and the power law of the tail."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from tlx.analyses.parameters import _power_law
from tlx.core import host, shown


@shown.short
class Summary(NamedTuple):
    """A summary of singular values σ, each with its multiplicity.

    All are scalars; in `Spectra` arrays [L]. NaN where there are no values or one is NaN.

    Attributes:
      spectral_norm: float64, the largest, σ₁.
      frobenius_norm: float64, the root of Σ σ².
      nuclear_norm: float64, Σ σ.
      smallest: float64.
      condition: float64, σ₁ / smallest, infinite where only the latter is 0; NaN for all 0.
      stable_rank: float64, Σ σ² / σ₁², 1 … the rank; NaN for all 0.
      effective_rank: float64, exp of the entropy of σ / Σ σ (Roy and Vetterli 2007), 1 … the
        rank; NaN for all 0.
      num_values: int64, zeros included.
      alpha: float64, the exponent of the power law p(λ) ∝ λ^(−α) that fits the tail of the
        squares λ = σ² best, equal ones by multiplicity counted once; NaN where there is none:
        fewer than 10 distinct values above 0.
      alpha_error: float64, its standard error, were the values independent.
      tail_start: float64, where the tail begins, a square.
      tail_distance: float64, the Kolmogorov–Smirnov distance of the tail from the law.
      num_tail: int64, the values in the tail.
    """

    spectral_norm: Any
    frobenius_norm: Any
    nuclear_norm: Any
    smallest: Any
    condition: Any
    stable_rank: Any
    effective_rank: Any
    num_values: Any
    alpha: Any
    alpha_error: Any
    tail_start: Any
    tail_distance: Any
    num_tail: Any


@host.only
def summary(
    values: Float[np.ndarray, " R"], multiplicity: Int[np.ndarray, " R"] | None = None
) -> Summary:
    """The summary of singular values.

    Args:
      values: real [R], at least 0, in any order, zeros included.
      multiplicity: int [R], at least 1, how often each occurs; None for once.

    Returns:
      `Summary` of scalars.

    Numerics: float64, relative to the largest value, so that squares do not overflow.
    Cost: O(R log R) and 200 reads of the values for the power law.
    References: Roy, Vetterli 2007, "The effective rank"; Clauset, Shalizi, Newman 2009,
      "Power-law distributions in empirical data"; Martin, Mahoney 2021, "Implicit
      self-regularization in deep neural networks".
    """
    values = np.asarray(values, np.float64)
    times = np.ones(len(values), np.int64) if multiplicity is None else np.asarray(multiplicity)
    if not len(values):
        return of_largest(values, math.nan, 0)
    largest, smallest = float(values.max()), float(values.min())
    law = _power_law.fit(np.square(values))
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = values / np.float64(largest)
        total, squares = float(times @ parts), float(times @ np.square(parts))
        shares = parts / total
        entropy = -float(times @ np.where(shares == 0, 0, shares * np.log(shares)))
        condition = float(np.float64(largest) / smallest)
    frobenius, nuclear = (largest * x if largest else 0.0 for x in (math.sqrt(squares), total))
    ranks = squares, math.exp(entropy)
    norms = largest, frobenius, nuclear, smallest, condition
    return Summary(*norms, *ranks, int(times.sum()), *law)


def of_largest(values: Float[np.ndarray, " k"], frobenius_norm: float, num_values: int) -> Summary:
    """What is known from the largest singular values and the norm; the rest is NaN."""
    largest = float(values[0]) if len(values) else math.nan
    stable = (frobenius_norm / largest) ** 2 if largest else math.nan
    norms = (frobenius_norm, math.nan, math.nan, math.nan)
    return Summary(largest, *norms, stable, math.nan, num_values, *_power_law.NONE)


def stacked(summaries: Sequence[Summary]) -> Summary:
    """The summaries of L layers as one of arrays [L]."""
    counts = ("num_values", "num_tail")
    columns = {
        name: np.array([getattr(x, name) for x in summaries], int if name in counts else float)
        for name in Summary._fields
    }
    return Summary(**columns)
