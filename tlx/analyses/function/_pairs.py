"""What the runs explain of values of pairs of runs."""

from collections.abc import Hashable, Sequence

import numpy as np


def check(pairs: Sequence[tuple[Hashable, Hashable]]) -> None:
    """Raises a ValueError unless each is of two different runs, and there once."""
    seen: set[frozenset[Hashable]] = set()
    for pair in pairs:
        runs = frozenset(pair)
        if len(pair) != 2 or len(runs) != 2:
            raise ValueError(f"expected pairs of two different runs, got {tuple(pair)}")
        if runs in seen:
            raise ValueError(f"expected each pair once, got {tuple(pair)} twice")
        seen.add(runs)


def incidence(pairs: Sequence[tuple[Hashable, Hashable]]) -> np.ndarray:
    """[M, R], 1 where a run is in a pair; without runs that are in all pairs."""
    runs = {run: place for place, run in enumerate(dict.fromkeys(r for p in pairs for r in p))}
    matrix = np.zeros((len(pairs), len(runs)))
    for row, pair in enumerate(pairs):
        matrix[row, [runs[run] for run in pair]] = 1
    return matrix[:, ~matrix.all(0)]


def variance_of_mean(values: np.ndarray, runs: np.ndarray) -> tuple[np.ndarray, int]:
    """The variance of the mean of [M, K], and its degrees of freedom, as though all came from runs.

    With y = μ + Zu + e and u the runs' effects, of one variance s², the sum of squares that Z
    explains has expectation c·s² and the mean variance d·s² (and each a share of e that is
    larger in the first: what the runs do not explain widens the interval). Of all pairs of R runs
    it is the variance of the delete-one-run jackknife.
    """
    count = len(values)
    of_runs, size, _ = np.linalg.svd(runs - runs.mean(0), full_matrices=False)
    of_runs = of_runs[:, size > 1e-9 * size.max(initial=1.0)]
    explained = ((of_runs.T @ values) ** 2).sum(0)
    share = (runs.sum(0) ** 2).sum() / count**2 / ((of_runs.T @ runs) ** 2).sum()
    return share * explained, of_runs.shape[1]
