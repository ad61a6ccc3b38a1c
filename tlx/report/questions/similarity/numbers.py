"""The similarity of features: by layer, by shuffle, by training step."""

from typing import NamedTuple

import numpy as np

from tlx.analyses.function import inference
from tlx.records import Record, results
from tlx.report.read.over_runs import band, of_pairs, pairs_of
from tlx.report.read.selection import Records, by_pair, of_kind, shuffle_of
from tlx.report.read.values import array, estimate, whole, words
from tlx.report.words import shuffles
from tlx.report.words.kinds import Pair
from tlx.report.words.numbers import Estimate, mean


class Layers(NamedTuple):
    """Similarity layer by layer: [L] over the layers that both models have, means over pairs.

    Attributes:
      names: of the layers.
      value: of the estimator.
      low, high: ends of the intervals over runs; of too few pairs those over test images, averaged
        over the pairs; without those the least and the greatest of the pairs.
      is_interval: whether `low` and `high` are confidence intervals.
      each: [M, L], of each pair.
      over_runs: the values as means over the pairs; None of too few runs.
      mean: over the layers that have a value in every pair.
      chance: what the biased estimator has on average where images are paired at random;
        NaN where it was not recorded, and 0 for the debiased one.
      z: of the debiased value, the least of the pairs; NaN where it was not recorded.
      too_few: whether there are too few images for the estimator, in any of the pairs, where
        there is a value.
    """

    names: list[str]
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    is_interval: bool
    each: np.ndarray
    over_runs: inference.Estimate | None
    mean: Estimate
    chance: np.ndarray
    z: np.ndarray
    too_few: np.ndarray
    num_images: int
    num_pairs: int

    def estimate(self, i: int) -> Estimate:
        """Layer `i` as an estimate, with its interval where it has one."""
        found = estimate(self.value[i], self.low[i], self.high[i], n=self.num_images)
        if self.over_runs is not None and found.interval is not None:
            error, degrees = float(self.over_runs.error[i]), self.over_runs.degrees
            return found._replace(error=error, degrees=degrees)
        return found if self.is_interval else found._replace(interval=None)


class BySteps(NamedTuple):
    """Similarity of a run to another at its checkpoints: [K, L] over steps and layers."""

    names: list[str]
    step: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    num_images: int
    num_runs: int

    def ends(self) -> tuple[Estimate, Estimate]:
        """The means over layers at the first and at the last step.

        Of the layers that have a value at both: a head that starts from zeros has none at 0.
        """
        known = np.flatnonzero(np.isfinite(self.value[[0, -1]]).all(axis=0))
        first, last = (mean([self._estimate(k, i) for i in known.tolist()]) for k in (0, -1))
        return first, last

    def _estimate(self, k: int, i: int) -> Estimate:
        return estimate(self.value[k, i], self.low[k, i], self.high[k, i], n=self.num_images)


def layers(
    records: Records, estimator: str = "debiased", shuffle: str = "none"
) -> dict[Pair, Layers]:
    """The similarity of each layer with itself in the other model, by kind of pair."""
    groups = _by_pair(records, estimator, shuffle)
    return {k: _layers(group, estimator) for k, group in groups.items()}


def _by_pair(records: Records, estimator: str, shuffle: str = "none") -> dict[Pair, list[Record]]:
    needed = ("layers_a", "layers_b", "debiased", estimator)
    return by_pair(records, "similarity", *needed, shuffle=shuffle)


def _layers(group: list[Record], estimator: str) -> Layers:
    found: list[results.Similarity] = [r.results for r in group]
    pairs = pairs_of(group)
    shared = [_shared(f) for f in found]
    names = [n for n in shared[0] if all(n in other for other in shared)]

    def diagonal(field: str) -> np.ndarray:
        rows = []
        for f, places in zip(found, shared, strict=True):
            matrix = array(getattr(f, field), f.debiased.shape)
            rows.append([matrix[places[n]] for n in names])
        return np.array(rows, np.float64).reshape(len(found), len(names))

    values = diagonal(estimator)
    low, high = diagonal("low"), diagonal("high")
    # The recorded intervals are those of the debiased value.
    is_interval = estimator == "debiased" and bool(np.isfinite([low, high]).any())
    n = min(whole(f.num_examples) for f in found)
    known = np.isfinite(values).all(axis=0)
    of_pair = [
        mean([estimate(v[i], lo[i], hi[i], n=n) for i in np.flatnonzero(known)])
        for v, lo, hi in zip(values, low, high, strict=True)
    ]
    over_runs = band(pairs, values)
    if over_runs is not None:
        low, high = over_runs.low, over_runs.high
        is_interval = True
    elif is_interval:
        low, high = low.mean(axis=0), high.mean(axis=0)
    else:
        low, high = values.min(axis=0), values.max(axis=0)
    return Layers(
        names,
        values.mean(axis=0),
        low,
        high,
        is_interval,
        values,
        over_runs,
        of_pairs(pairs, of_pair),
        np.zeros(len(names)) if estimator == "debiased" else diagonal("chance").mean(axis=0),
        diagonal("z").min(axis=0),
        (diagonal("too_few") == 1).any(axis=0) & np.isfinite(values.mean(axis=0)),
        n,
        len(found),
    )


def _shared(found: results.Similarity) -> dict[str, tuple[int, int]]:
    """The layers that both models have, and where they stand."""
    rows, columns = words(found.layers_a), words(found.layers_b)
    return {n: (i, columns.index(n)) for i, n in enumerate(rows) if n in columns}


def matrices(
    records: Records, estimator: str = "debiased"
) -> dict[Pair, tuple[list[str], list[str], np.ndarray]]:
    """The first pair's layers and [La, Lb] similarities, by kind of pair."""
    made = {}
    for kinds, group in _by_pair(records, estimator).items():
        found: results.Similarity = group[0].results
        values = np.asarray(getattr(found, estimator), np.float64)
        made[kinds] = words(found.layers_a), words(found.layers_b), values
    return made


def shuffled(records: Records) -> dict[str, dict[Pair, Layers]]:
    """The debiased similarities on shuffled images, by shuffle, the finest first."""
    names = {shuffle_of(r) for r in of_kind(records, "similarity")} - {"none"}
    found = {name: layers(records, shuffle=name) for name in sorted(names, key=shuffles.rank)}
    return {name: groups for name, groups in found.items() if groups}


def by_step(records: Records) -> dict[Pair, BySteps]:
    """The similarity over the checkpoints of the first run of each kind, to P."""
    groups = by_pair(records, "similarity_by_step", "step", "layers", "debiased")
    return {kinds: _by_step([r.results for r in group]) for kinds, group in groups.items()}


def _by_step(found: list[results.SimilarityByStep]) -> BySteps:
    first = found[0]
    value = np.asarray(first.debiased, np.float64)
    return BySteps(
        words(first.layers),
        np.atleast_1d(first.step),
        value,
        array(first.low, value.shape),
        array(first.high, value.shape),
        whole(first.num_examples),
        len(found),
    )


def spatial(records: Records) -> list[str]:
    """What was done with the positions of feature maps; empty where it is not recorded."""
    found = {r.options.get("spatial") for r in of_kind(records, "similarity")}
    return sorted(str(name) for name in found if name)
