"""The line between two models, point by point."""

import numpy as np

from tlx.report.words.numbers import UNKNOWN, Estimate, proportion


def nearest(alphas: np.ndarray, accuracy: np.ndarray, alpha: float, n: int) -> Estimate:
    """The accuracy at the point of a line that is nearest to a place on it."""
    return proportion(float(accuracy[int(np.argmin(np.abs(alphas - alpha)))]), n)


def accuracy_barrier(alphas: np.ndarray, accuracy: np.ndarray, barrier: Estimate) -> Estimate:
    """The accuracy barrier, with the error of the points it compares.

    Args:
      alphas: [K], where the points of the line are.
      accuracy: [K], there.
      barrier: as it was recorded, of so many images.
    """
    first, last = (nearest(alphas, accuracy, alpha, barrier.n) for alpha in (0.0, 1.0))
    under = (1 - alphas) * first.value + alphas * last.value - accuracy
    if not np.isfinite(under).any():
        return UNKNOWN
    at = int(np.nanargmax(under))
    lowest, weight = proportion(float(accuracy[at]), barrier.n), float(alphas[at])
    error = np.sqrt(
        lowest.error**2 + ((1 - weight) * first.error) ** 2 + (weight * last.error) ** 2
    )
    return barrier._replace(error=float(error))
