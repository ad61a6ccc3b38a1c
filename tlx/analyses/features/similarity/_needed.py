"""How many examples a value of a similarity measure needs, by what chance gives.

Chance is the examples of Y permuted against those of X. Each rule is a function
`(Dx, Dy) -> n` of the numbers of features; features with fewer directions than numbers need
fewer examples.
"""

import math
from collections.abc import Callable

Rule = Callable[[int, int], int]


def noise(dx: int, dy: int) -> int:
    """Debiased: the standard deviation √(2/(n(n − 3))) of chance (exact) is below 0.05."""
    return 30


def bias(dx: int, dy: int) -> int:
    """Biased: the mean of chance, tr(K)·tr(L)/((n − 1)‖K‖‖L‖) ≤ √(Dx·Dy)/(n − 1), is at most 0.1.

    The bound is met by features of one variance.
    """
    return max(30, 1 + math.ceil(10 * math.sqrt(dx * dy)))


def bias_of_distances(dx: int, dy: int) -> int:
    """As `bias`, with the kernel of distances: about 4·√(Dx·Dy)/(n − 1), measured on normals."""
    return max(30, 1 + math.ceil(40 * math.sqrt(dx * dy)))


def correlations(dx: int, dy: int) -> int:
    """The mean squared canonical correlation of chance, max(Dx, Dy)/(n − 1), is at most 0.1.

    Raghu et al. and Morcos et al. ask for 5 to 10 times the width too.
    """
    return 1 + 10 * max(dx, dy)


def regression(dx: int, dy: int) -> int:
    """The R² of chance, Dx/(n − 1), is at most 0.1."""
    return 1 + 10 * dx


def rotation(dx: int, dy: int) -> int:
    """The mean square of chance's Procrustes similarity, ≤ min(Dx, Dy)/(n − 1), is at most 0.1."""
    return 1 + 10 * min(dx, dy)


def ranks(dx: int, dy: int) -> int:
    """The standard deviation of chance, up to about 1/√(n − 1), is at most 0.1.

    Where dissimilarities are mostly sums of one term for each of the two examples, the
    n(n − 1)/2 pairs say no more than n numbers.
    """
    return 101


def neighbors(k: int) -> Rule:
    """The rule where the share of k neighbours that chance has in common is at most 0.1.

    That share is k/(n − 1). CKNNA, whose centring takes little away where k is much below n,
    is by chance 0.9 to 1 times it (measured on normals of 3 to 100 features, k of 5 and 10).
    """
    return lambda dx, dy: 1 + 10 * k
