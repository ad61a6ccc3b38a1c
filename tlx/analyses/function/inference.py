"""How sure a difference is: intervals and p-values over seeds, over examples, or over both.

With few seeds, Student's t is used with separate variances of the groups; examples shared by all
models are paired. Each result states the numbers of both and which of the two its interval
covers: an interval over examples alone concerns these trained models, one over seeds the recipe
that trained them. Numbers are float64 on the host, from a few reads of the values.
"""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from tlx.analyses.function import _chance, _intervals, _pairs, _samples
from tlx.analyses.function._multiple_tests import benjamini_hochberg, holm
from tlx.core import host, public, shown

__dir__ = public.names(__name__)

__all__ = ["Comparison", "Estimate", "benjamini_hochberg", "difference", "difference_of_examples",
           "difference_of_means", "holm", "mean_over_pairs", "mean_over_seeds",
           "over_seeds_and_examples", "relative_drop"]  # fmt: skip

EQUAL = np.array([1.0, -1.0])
"""The weights of the means of a and b in their difference."""


@shown.short
class Estimate(NamedTuple):
    """A mean with its interval; of values with further axes [S, ...], arrays [...].

    Attributes:
      value: float, the mean; NaN without values.
      low: float, the lower end of the interval; NaN where n is under 2.
      high: float, its upper end.
      error: float, the standard error; NaN where n is under 2.
      n: int, the number of values.
      degrees: float, the degrees of freedom of the interval; NaN where it has none.
    """

    value: Any
    low: Any
    high: Any
    error: Any
    n: int
    degrees: float


@shown.short
class Comparison(NamedTuple):
    """A comparison of two groups of models, a and b.

    Attributes:
      value: float, the difference a − b, or the drop in %.
      low: float, the lower end of the interval; NaN where `chance` is empty, or without bound.
      high: float, its upper end.
      error: float, the standard error of the value.
      p_value: float 0 … 1, two-sided, of a and b being equal.
      num_seeds: the seeds of a and of b.
      num_examples: int, the number of examples; 0 where each value is of an entire set of examples.
      chance: the sources of chance that the interval covers: "seeds" (other runs of the same
        recipes), "examples" (other examples of the same kind), both or none.
    """

    value: float
    low: float
    high: float
    error: float
    p_value: float
    num_seeds: tuple[int, int]
    num_examples: int
    chance: tuple[str, ...]


@host.only
def mean_over_seeds(values: Any, *, confidence: float = 0.95) -> Estimate:
    """The mean m of S seeds and its interval m ± t·s/√S, with Student's t of S − 1 degrees.

    Args:
      values: float [S], one number per seed, such as a test accuracy.
      confidence: between 0 and 1.

    Returns:
      `Estimate`. One seed has no interval: NaN, with n = 1. Equal values have one of zero width;
      a NaN or an infinity among the values gives NaN. The ends are not clipped to 0 and 1.

    Raises:
      ValueError: at call, if values is not a vector or confidence is not between 0 and 1.

    References: Student, The probable error of a mean, 1908.
    """
    x = _samples.array("values", values, (1,))
    _samples.check_confidence(confidence)
    of = _intervals.sources(x, x, paired=True)
    value, low, high, error, _ = _intervals.student(of, np.array([1.0, 0.0]), confidence)
    degrees = len(x) - 1.0 if len(x) > 1 else np.nan
    return Estimate(value, low, high, error, len(x), degrees)


@host.only
def mean_over_pairs(
    values: Any, pairs: Sequence[tuple[Hashable, Hashable]], *, confidence: float = 0.95
) -> Estimate:
    """The mean over pairs of runs, such as a barrier between two, with its interval over runs.

    Pairs that share a run are not independent: ten pairs of five runs say what five runs say. The
    interval is Student's t with the variance of the delete-one-run jackknife, which puts all that
    runs can explain down to them; its degrees of freedom are R − 1 for all pairs of R runs, and
    for pairs that share no run it is that of `mean_over_seeds`. A run that is in all pairs is
    held fixed: the interval is then over its partners.

    In simulations of 3, 5 and 10 runs and all their pairs, 95% intervals cover in 0.949 to 0.951 of
    cases for effects of runs alone, in 0.960 to 0.973 with an effect of each pair of twice the
    variance beside, in 0.943 to 0.960 for squared distances of Gaussian vectors, in 0.910 to 0.923
    for skewed (log-normal) values, and in 0.987 to 0.992 where runs have no effect of their own. A
    t interval of the pairs as though they were independent falls to 0.84, 0.59 and 0.44.

    Args:
      values: float [M, ...], of M pairs; each place of further axes (a layer, a point of a line)
        by itself.
      pairs: M times the two runs of a pair, by name or number, each pair once, in any order.
      confidence: between 0 and 1.

    Returns:
      `Estimate`, with arrays where values has further axes and the number of pairs as n. One pair
      has no interval: NaN. A place with a NaN or an infinity is NaN. Equal values have an interval
      of zero width.

    Raises:
      ValueError: at call, if values and pairs differ in length, a pair is of one run with itself or
        there twice, or confidence is not between 0 and 1.

    Cost: a singular value decomposition [M, R].
    References: J. Arvesen, Jackknifing U-statistics, 1969; B. Efron and C. Stein, The jackknife
      estimate of variance, 1981.
    """
    y = np.asarray(values, np.float64)
    _samples.check_confidence(confidence)
    if y.ndim < 1 or len(y) != len(pairs):
        raise ValueError(f"expected values [M, ...] of {len(pairs)} pairs, got shape {y.shape}")
    _pairs.check(pairs)
    if len(y) == 0:
        nothing = _plain(np.full(y.shape[1:], np.nan))
        return Estimate(nothing, nothing, nothing, nothing, 0, np.nan)
    y = np.where(np.isinf(y), np.nan, y)
    centred = (y - y[0]).reshape(len(y), -1)  # so that rounding gives equal values no spread
    mean = centred.mean(0)
    degrees = np.nan
    if len(y) == 1:
        error = half = np.full(mean.shape, np.nan)
    else:
        variance, degrees = _pairs.variance_of_mean(centred - mean, _pairs.incidence(pairs))
        error = np.sqrt(variance)
        half = error * special.stdtrit(degrees, (1 + confidence) / 2)
    mean = mean + y[0].ravel()
    value, low, high, error = (
        _plain(part.reshape(y.shape[1:])) for part in (mean, mean - half, mean + half, error)
    )
    return Estimate(value, low, high, error, len(y), float(degrees))


@host.only
def difference_of_means(a: Estimate, b: Estimate, *, confidence: float = 0.95) -> Estimate:
    """The difference a − b of two independent means, with Welch's t interval.

    Args:
      a: of `mean_over_seeds` or `mean_over_pairs`; so is b, of other runs.
      b: see a.
      confidence: between 0 and 1; the ends of a and b do not matter.

    Returns:
      `Estimate` with n the smaller of both. NaN ends where one of both has no error. Of
      `mean_over_seeds` it is `difference` unpaired. Where both have runs in common whose
      effects go the same way, as those of P-T in the mean of P-T pairs and in that of P-T and
      RI-T, it is wider than need be.

    Raises:
      ValueError: at call, if confidence is not between 0 and 1.

    References: B. Welch, 1947, as `difference`.
    """
    _samples.check_confidence(confidence)
    value = np.asarray(a.value) - np.asarray(b.value)
    parts = [np.square(np.asarray(one.error, np.float64)) for one in (a, b)]
    variance = parts[0] + parts[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        degrees = variance**2 / (parts[0] ** 2 / a.degrees + parts[1] ** 2 / b.degrees)
    error = np.sqrt(variance)
    t = special.stdtrit(degrees, (1 + confidence) / 2)
    half = np.where(error == 0, 0.0, error * t)
    value, low, high, error = (_plain(x) for x in (value, value - half, value + half, error))
    return Estimate(value, low, high, error, min(a.n, b.n), _plain(np.asarray(degrees)))


@host.only
def difference(a: Any, b: Any, *, paired: bool, confidence: float = 0.95) -> Comparison:
    """The difference of two means over seeds, mean(a) − mean(b), with a t interval.

    Unpaired, it is Welch's, which allows unequal variances; paired, it is that of the
    differences a_s − b_s.

    Args:
      a: float [Sa], one number per seed.
      b: float [Sb], likewise.
      paired: whether seed s of a and seed s of b share randomness (the same order of data, the
        same shuffle, the same start); then Sa = Sb.
      confidence: between 0 and 1.

    Returns:
      `Comparison`; exchanging a and b changes its sign. No interval and no p-value (NaN) where
      a or b has one seed. p is below 1 − confidence exactly where the interval excludes 0; where
      nothing varies it is 1 for equal means, else 0. NaN without seeds, and for a NaN or an
      infinity in a or b.

    Raises:
      ValueError: at call, if a or b is not a vector, if they are paired and differ in length, or if
        confidence is not between 0 and 1.

    References: B. Welch, The generalization of Student's problem when several different
      population variances are involved, 1947.

    >>> from tlx.analyses import function
    >>> a, b = [0.81, 0.86, 0.91], [0.8, 0.85, 0.9]  # each seed of a is better by 0.01
    >>> for paired in (True, False):
    ...     found = function.difference(a, b, paired=paired)
    ...     print(f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]")
    0.01 [0.01, 0.01]
    0.01 [-0.10, 0.12]
    """
    x, y = _samples.groups(a, b, (1,), paired)
    return _difference(x, y, paired, confidence)[0]


@host.only
def difference_of_examples(right_a: Any, right_b: Any, *, confidence: float = 0.95) -> Comparison:
    """The difference of two models' accuracies on the same examples, a − b.

    The interval is Tango's score interval: the differences Δ with
    |n_a − n_b − NΔ| ≤ z·√(N(2q + Δ(1 − Δ))), where n_a and n_b count the examples that only a
    and only b gets right, and q is the maximum-likelihood share of the latter at this Δ. The
    p-value is McNemar's exact one: n_a of n_a + n_b fair coins.

    Computed exactly for N = 50 … 400 and shares up to 0.5 of examples that only one model gets
    right (two such examples or more expected), its 95% interval covers with probability
    0.932 or more, 0.95 to 0.957 on average; the t interval of the differences falls to 0.775,
    and the normal one with half an example added to each cell (Agresti and Min 2005) to 0.865.

    Args:
      right_a: bool (or 0 and 1) [N], whether a is right.
      right_b: likewise for b, on the same examples in the same order.
      confidence: between 0 and 1.

    Returns:
      `Comparison`, of these two models: chance is ("examples",). Two models that are right on
      the same examples still have an interval, ± z²/(N + z²), and p = 1. NaN without examples.
      Interval and p-value come from two methods: near 0 they may disagree.

    Raises:
      ValueError: at call, for shapes other than two equal [N], values other than 0 and 1 (leave
        out examples that were not seen), or a confidence that is not between 0 and 1.

    Numerics: the ends to 1e-15, by bisection.
    References: T. Tango, Equivalence test and confidence interval for the difference in
      proportions for the paired-sample design, 1998; Q. McNemar, Note on the sampling error of
      the difference between correlated proportions or percentages, 1947.
    """
    a, b = _samples.array("right_a", right_a, (1,)), _samples.array("right_b", right_b, (1,))
    for name, x in (("right_a", a), ("right_b", b)):
        if others := int(np.sum((x != 0) & (x != 1))):
            raise ValueError(f"expected {name} of 0 and 1, got {others} other values")
    plain, _ = _difference(*_samples.groups(a[None], b[None], (2,), True), True, confidence)
    if not a.size:
        return plain
    only_a, only_b = int(np.sum(a > b)), int(np.sum(b > a))
    z = float(special.ndtri((1 + confidence) / 2))
    low, high = _intervals.score(only_a, only_b, len(a), z)
    alike = len(a) - only_a - only_b
    p_value, _ = _chance.mcnemar(np.array([alike, only_b, only_a, 0]))
    return plain._replace(low=low, high=high, p_value=float(p_value), chance=("examples",))


@host.only
def over_seeds_and_examples(
    a: Any, b: Any, *, paired: bool, confidence: float = 0.95
) -> Comparison:
    """The difference of two means over seeds and examples, with both as sources of chance.

    All models are evaluated on the same examples. The variance is a sum of components,
    V = V_seeds + V_examples − V_both: that of the seeds' means, that of the examples' mean
    differences, and that of their interaction, which both contain; never less than either of the
    first two. The interval is Student's t with Satterthwaite's degrees of freedom.

    In simulations of 3 and 5 seeds and 100 and 400 examples, 95% intervals cover in 0.946 to 0.980
    of cases, paired ones in 0.935 to 0.975. A bootstrap of seeds and examples covers in 0.81 to
    1.0, of seeds alone in 0.87 to 0.97, of examples alone in 0.22 to 0.96.

    Args:
      a: bool or float [Sa, N], such as whether the model of each seed is right.
      b: bool or float [Sb, N], likewise, on the same examples in the same order.
      paired: whether seed s of a and seed s of b share randomness; then Sa = Sb.
      confidence: between 0 and 1.

    Returns:
      `Comparison`. With one seed of a or b the t interval is over examples alone
      (`difference_of_examples` has a better one for correctness of two models); with one
      example over seeds alone. `chance` states which.

    Raises:
      ValueError: at call, as `difference`, or if the numbers of examples differ.

    Cost: a few reads of a and b.
    References: A. Cameron, J. Gelbach, D. Miller, Robust inference with multiway clustering,
      2011; F. Satterthwaite, An approximate distribution of estimates of variance components,
      1946.
    """
    x, y = _samples.groups(a, b, (2,), paired)
    return _difference(x, y, paired, confidence)[0]


@host.only
def relative_drop(a: Any, b: Any, *, paired: bool, confidence: float = 0.95) -> Comparison:
    """The relative drop from a to b, 100·(mean(a) − mean(b)) / mean(a) in %.

    The interval is Fieller's: the ratios r = b/a for which the mean of b − r·a is within t
    standard errors of 0, with the degrees of freedom at the measured ratio.

    In simulations of 3 and 5 seeds and accuracies 0.05 … 0.95, 95% intervals cover in 0.942 to
    0.964 of cases, over seeds and examples in 0.946 to 0.973; a bootstrap of the seeds in 0.74
    to 0.87, the normal approximation in 0.81 to 0.92.

    Args:
      a: float [Sa], accuracies by seed, or [Sa, N], by seed and example; of the baseline, such
        as P-T.
      b: float [Sb] or [Sb, N], such as RI-T.
      paired: whether seed s of a and seed s of b share randomness; then Sa = Sb.
      confidence: between 0 and 1.

    Returns:
      `Comparison` in %; its p-value is that of the difference. If the interval of mean(a)
      contains 0 the drop is unbounded, and its ends are NaN; also if `chance` is empty.
      Everything but p is NaN where mean(a) is 0.

    Raises:
      ValueError: at call, as `difference` and `over_seeds_and_examples`, or if a and b have
        different numbers of axes.

    References: E. Fieller, Some problems in interval estimation, 1954; Neyshabur, Sedghi, Zhang
      2020, figure 3.
    """
    x, y = _samples.groups(a, b, (1, 2), paired)
    plain, of = _difference(x, y, paired, confidence)
    if of.means[0] == 0:
        return plain._replace(value=np.nan, low=np.nan, high=np.nan, error=np.nan)
    ratio = of.means[1] / of.means[0]
    weights = np.array([-ratio, 1.0])
    matrix, degrees = _intervals.spread(of, weights)
    error = np.sqrt(_intervals.along(matrix, weights))
    t = special.stdtrit(degrees, (1 + confidence) / 2) if error else 0.0
    least, most = _intervals.fieller(of.means, matrix, t)
    value, low, high = (100 * (1 - x) for x in (ratio, most, least))
    error = float(100 * error / abs(of.means[0]))
    return plain._replace(value=float(value), low=low, high=high, error=error)


def _difference(
    a: np.ndarray, b: np.ndarray, paired: bool, confidence: float
) -> tuple[Comparison, _intervals.Sources]:
    _samples.check_confidence(confidence)
    of = _intervals.sources(a, b, paired)
    found = _intervals.student(of, EQUAL, confidence)
    counts = (len(a), len(b)), a.shape[1] if a.ndim == 2 else 0
    return Comparison(*found, *counts, tuple(of.parts)), of


def _plain(values: np.ndarray) -> Any:
    """A float for a scalar."""
    return values if values.ndim else float(values)
