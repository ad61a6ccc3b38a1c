"""Barriers of groups of models, with intervals over examples and verdicts.

A group is a few models and points between them. Its barrier is the largest rise of the loss at
these points above the chord: the average of the models' losses with the weights of the point.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from tlx.analyses.landscape import _losses
from tlx.core import intervals, undefined

Groups = dict[tuple[int, ...], np.ndarray]
"""The models of each group to the weights [Kg, m] of its points."""


def pairs_and_centre(num_models: int, num_points: int) -> Groups:
    """All pairs with evenly spaced inner points, and all models with their centre, if three."""
    corners = np.eye(num_models)
    inner = np.arange(1, num_points + 1)[:, None] / (num_points + 1)
    groups: Groups = {
        (i, j): (1 - inner) * corners[i] + inner * corners[j]
        for i, j in itertools.combinations(range(num_models), 2)
    }
    if num_models > 2:
        groups[tuple(range(num_models))] = np.full((1, num_models), 1 / num_models)
    return groups


def coordinates(num_models: int, groups: Groups) -> Float[np.ndarray, "K m"]:
    """The weights of the models themselves, then of all groups' points."""
    return np.concatenate([np.eye(num_models), *groups.values()])


def heights(losses: Any, groups: Groups) -> Float[np.ndarray, "R G"]:
    """The barriers from mean losses [R, K] at `coordinates`; NaN where a loss is NaN."""
    losses = np.asarray(losses, np.float64)
    out = []
    start = next(iter(groups.values())).shape[1]
    for members, weights in groups.items():
        chord = losses[:, members] @ weights[:, members].T
        rise = losses[:, start : start + len(weights)] - chord
        out.append(np.maximum(rise.max(1), 0))
        start += len(weights)
    return np.stack(out, 1)


def judged(
    values: Mapping[str, Array],
    groups: Groups,
    tolerances: Mapping[str, float],
    *,
    confidence: float,
    num_resamples: int,
    key: Array,
) -> dict[str, Any]:
    """The barriers of each loss from its values [K, N], with intervals and verdicts.

    Returns:
      `barriers`, `low`, `high` and `verdicts` by loss, `verdict` over all, and the deciding group.
    """
    out: dict[str, Any] = {name: {} for name in ("barriers", "low", "high", "verdicts")}
    ranked = []
    for name, limit in tolerances.items():
        samples = intervals.resampled_means(values[name], num_resamples=num_resamples, key=key)
        low, high = intervals.percentile_interval(heights(samples, groups), confidence)
        own = heights(_losses.means(values[name])[None], groups)[0]
        verdicts = tuple(intervals.verdict(*ends, limit) for ends in zip(low, high, strict=True))
        for field, value in (("barriers", own), ("low", low), ("high", high)):
            out[field][name] = undefined.array(value)
        out["verdicts"][name] = verdicts
        for members, height, verdict in zip(groups, own, verdicts, strict=True):
            relative = np.inf if np.isnan(height) else height / max(limit, 1e-30)
            ranked.append((intervals.SEVERITY.index(verdict), relative, verdict, (name, members)))
    *_, verdict, deciding = max(ranked, key=lambda entry: entry[:2])
    return {**out, "verdict": verdict, "deciding": deciding}
