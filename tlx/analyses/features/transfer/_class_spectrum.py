"""The class indicators along the directions in which the features vary.

With the singular value decomposition F = U S Vᵀ and the indicator y of a class, the model
y ~ N(Fw, β⁻¹I), w ~ N(0, α⁻¹I) has the log evidence, per example and at its best β,

L(t) = −½[log(2πe·Q(t)/N) + Σ_k log(1 + s_k²/t)/N],  Q(t) = Σ_k z_k² t/(s_k² + t) + ‖y − Uz‖²,

with t = α/β and z = Uᵀy. Only a one-dimensional maximisation remains, and neither directions
without features nor the scale of all features matter.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize

_EPS = float(np.finfo(np.float64).eps)
_STEP = 0.25  # of log t; the terms of L vary over distances of about 1


class Spectrum(NamedTuple):
    """The r directions of N features that are above rounding: U and s."""

    left: Float[np.ndarray, "N r"]
    values: Float[np.ndarray, " r"]


def spectrum(x: Float[np.ndarray, "N D"], eps: float) -> Spectrum:
    """The decomposition of features, each of which is known up to ±eps.

    Independent errors of that size have singular values of up to eps·(√N + √D); directions below
    that are left out, as are those within the rounding error of the decomposition.
    """
    left, values, _ = np.linalg.svd(x, full_matrices=False)
    size, dim = x.shape
    noise = eps * (math.sqrt(size) + math.sqrt(dim))
    kept = values > max(noise, _EPS * max(size, dim) * values.max(initial=0))
    return Spectrum(left[:, kept], values[kept])


def log_evidence(of: Spectrum, labels: Int[np.ndarray, " N"]) -> Float[np.ndarray, " C"]:
    """The maximum of L(t) over t from 0 to ∞, for each class that has examples."""
    classes, counts = np.unique(labels, return_counts=True)
    n, r = of.left.shape
    along = np.stack([of.left[labels == c].sum(0) for c in classes])
    rest = np.zeros(len(classes))
    if r < n:  # else no residual is left, and the difference would be rounding error
        for place, c in enumerate(classes):
            rest[place] = np.square((labels == c) - of.left @ along[place]).sum()
    is_exact = rest <= (64 * _EPS) ** 2 * n * counts
    found = np.full(len(classes), math.inf)
    for i in np.flatnonzero(~is_exact | (r == n)):
        found[i] = _best(np.square(of.values), np.square(along[i]), rest[i], n)
    return found


def _best(power: np.ndarray, energy: np.ndarray, rest: float, n: int) -> float:
    """The maximum of L(t), from s², z² and the residual that no direction explains."""

    def level(log_t: np.ndarray) -> np.ndarray:
        t = np.exp(np.atleast_1d(log_t))[:, None]
        misfit = rest + (energy * (t / (power + t))).sum(1)
        return -(_log_misfit(misfit, n) + np.log1p(power / t).sum(1) / n) / 2

    best = -_log_misfit(rest + energy.sum(), n) / 2  # t = ∞: the features explain nothing
    if not len(power):
        return float(best)
    steep = (energy / power).sum()
    low = power.min()
    if len(power) == n:  # t = 0: they explain everything, as N independent features can
        best = max(best, -(_log_misfit(steep, n) + np.log(power).sum() / n) / 2)
        low *= 1e-6
    else:  # L increases as long as t is below both
        low = 1 / max(1 / low, 2 * n * steep / (len(power) * rest))
    start, stop = math.log(low) - 2 * _STEP, math.log(1e6 * power.max())
    grid = np.linspace(start, stop, math.ceil((stop - start) / _STEP) + 1)
    values = np.concatenate([level(part) for part in np.array_split(grid, 16)])
    best = max(best, values.max())
    rise = np.diff(values)
    peaks = np.flatnonzero((rise[:-1] >= 0) & (rise[1:] <= 0) & (rise[:-1] - rise[1:] > 1e-11))
    for i in peaks:
        found = optimize.minimize_scalar(
            lambda u: -level(u)[0],
            bounds=(grid[i], grid[i + 2]),
            method="bounded",
            options={"xatol": 1e-7},
        )
        best = max(best, -found.fun)
    return float(best)


def _log_misfit(misfit: np.ndarray, n: int) -> np.ndarray:
    return np.log(2 * math.pi * math.e * misfit / n)


def h_scores(
    of: Spectrum, labels: Int[np.ndarray, " N"], x: Float[np.ndarray, "N D"]
) -> tuple[float, float]:
    """The H-score of centred features x and their spectrum, plain and shrunk."""
    classes, counts = np.unique(labels, return_counts=True)
    sums = np.stack([of.left[labels == c].sum(0) for c in classes])
    between = (np.square(sums) / counts[:, None]).sum(0)  # the classes' share of each direction
    n, dim = x.shape
    variances = np.square(of.values) / n
    mean, square = variances.sum() / max(dim, 1), np.square(variances).sum()
    apart = square - dim * mean**2
    noise = (np.square(np.square(x).sum(1)).mean() - square) / n
    shrinkage = min(noise, apart) / apart if apart > 1e-12 * square else 0.0
    kept = (1 - shrinkage) * variances
    return float(between.sum()), float((kept / (kept + shrinkage * mean) * between).sum())
