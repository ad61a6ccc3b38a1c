"""The numbers of two groups of seeds, checked where they enter."""

from typing import Any

import numpy as np


def check_confidence(confidence: float) -> None:
    """Raises ValueError for a confidence that is no share."""
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, got {confidence}")


def array(name: str, values: Any, axes: tuple[int, ...]) -> np.ndarray:
    """The values in float64; ValueError for other than these numbers of axes."""
    found = np.asarray(values, np.float64)
    if found.ndim not in axes:
        kinds = " or ".join({1: "[S]", 2: "[S, N]"}[n] for n in axes)
        raise ValueError(f"expected {name} as an array {kinds}, got shape {found.shape}")
    return found


def groups(a: Any, b: Any, axes: tuple[int, ...], paired: bool) -> tuple[np.ndarray, np.ndarray]:
    """Both in float64, checked against each other."""
    x, y = array("a", a, axes), array("b", b, axes)
    if x.shape[1:] != y.shape[1:]:
        raise ValueError(
            f"expected a and b on the same examples, got shapes {x.shape} and {y.shape}"
        )
    if paired and len(x) != len(y):
        raise ValueError(
            f"expected as many seeds of a as of b for paired=True, got {len(x)} and {len(y)}"
        )
    return x, y
