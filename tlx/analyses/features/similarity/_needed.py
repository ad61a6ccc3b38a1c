"""The number of examples that a similarity measure needs, from its values by chance.

By chance means: with the examples of Y permuted against those of X. Each rule is a function
`(Dx, Dy) -> n` of the numbers of features; features of a rank below their number need fewer
examples.
"""

import math
from collections.abc import Callable

Rule = Callable[[int, int], int]


def noise(dx: int, dy: int) -> int:
    """Debiased: the standard deviation √(2/(n(n − 3))) by chance (exact) is below 0.05."""
    return 30


def bias(dx: int, dy: int) -> int:
    """Biased: the mean by chance, tr(K)·tr(L)/((n − 1)‖K‖‖L‖) ≤ √(Dx·Dy)/(n − 1), is at most 0.1.

    Features of equal variances attain the bound.
    """
    return max(30, 1 + math.ceil(10 * math.sqrt(dx * dy)))


def bias_of_distances(dx: int, dy: int) -> int:
    """As `bias`, for the distance kernel: about 4·√(Dx·Dy)/(n − 1), measured on normal features."""
    return max(30, 1 + math.ceil(40 * math.sqrt(dx * dy)))


def correlations(dx: int, dy: int) -> int:
    """The mean squared canonical correlation by chance, max(Dx, Dy)/(n − 1), is at most 0.1.

    Raghu et al. and Morcos et al. also recommend 5 to 10 times the width.
    """
    return 1 + 10 * max(dx, dy)


def regression(dx: int, dy: int) -> int:
    """The R² by chance, Dx/(n − 1), is at most 0.1."""
    return 1 + 10 * dx


def rotation(dx: int, dy: int) -> int:
    """The mean squared Procrustes similarity by chance, ≤ min(Dx, Dy)/(n − 1), is at most 0.1."""
    return 1 + 10 * min(dx, dy)


def ranks(dx: int, dy: int) -> int:
    """The standard deviation by chance, up to about 1/√(n − 1), is at most 0.1.

    Where dissimilarities are mostly sums of one term for each of the two examples, the
    n(n − 1)/2 pairs carry no more information than n numbers.
    """
    return 101


def neighbors(k: int) -> Rule:
    """The rule by which the share of k neighbours in common by chance is at most 0.1.

    That share is k/(n − 1). CKNNA, whose centring removes little where k is much below n, is by
    chance 0.9 to 1 times it (measured on normals of 3 to 100 features, k of 5 and 10).
    """
    return lambda dx, dy: 1 + 10 * k
