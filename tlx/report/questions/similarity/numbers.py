"""The similarity of features: by layer, by shuffle, by training step."""

from typing import NamedTuple

import numpy as np

from tlx.records import Record
from tlx.report.read.selection import Records, by_pair, option, usable
from tlx.report.read.values import whole
from tlx.report.words.kinds import Pair
from tlx.report.words.numbers import Estimate, mean
from tlx.report.words.shuffles import rank


class Layers(NamedTuple):
    """Similarity layer by layer: [L] over the layers that both models have, means over pairs.

    Attributes:
      names: of the layers.
      value: of the estimator.
      low, high: ends of the confidence intervals, averaged over the pairs; without those
        the least and the greatest of the pairs.
      is_interval: whether `low` and `high` are confidence intervals.
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
    chance: np.ndarray
    z: np.ndarray
    too_few: np.ndarray
    num_images: int
    num_pairs: int

    def estimate(self, i: int) -> Estimate:
        """Layer `i` as an estimate, with its interval where it has one."""
        ends = (float(self.low[i]), float(self.high[i]))
        known = self.is_interval and bool(np.isfinite(ends).all())
        return Estimate(float(self.value[i]), n=self.num_images, interval=ends if known else None)


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
        """The means at the first and at the last step, as `mean_similarity` does.

        Of the layers that have a value at both: a head that starts from zeros has none at 0.
        """
        known = np.flatnonzero(np.isfinite(self.value[[0, -1]]).all(axis=0))
        first, last = (mean([self._estimate(k, i) for i in known.tolist()]) for k in (0, -1))
        return first, last

    def _estimate(self, k: int, i: int) -> Estimate:
        ends = (float(self.low[k, i]), float(self.high[k, i]))
        known = bool(np.isfinite(ends).all())
        return Estimate(
            float(self.value[k, i]), n=self.num_images, interval=ends if known else None
        )


def layers(
    records: Records, estimator: str = "debiased", shuffle: str = "none"
) -> dict[Pair, Layers]:
    """The similarity of each layer with itself in the other model, by kind of pair."""
    groups = by_pair(records, "similarity", shuffle)
    found = {
        k: _layers([r for r in v if estimator in r.results], estimator) for k, v in groups.items()
    }
    return {k: value for k, value in found.items() if value is not None}


def _layers(found: list[Record], estimator: str) -> Layers | None:
    shared = [_shared(r) for r in found]
    if not shared:
        return None
    names = [n for n in shared[0] if all(n in other for other in shared)]

    def diagonal(field: str) -> np.ndarray:
        rows = []
        for record, own in zip(found, shared, strict=True):
            matrix = _matrix(record, field)
            rows.append([matrix[own[n]] for n in names])
        return np.array(rows, np.float64).reshape(len(found), len(names))

    values = diagonal(estimator)
    low, high = diagonal("low"), diagonal("high")
    # The recorded intervals are those of the debiased value.
    is_interval = estimator == "debiased" and bool(np.isfinite([low, high]).any())
    return Layers(
        names,
        values.mean(axis=0),
        low.mean(axis=0) if is_interval else values.min(axis=0),
        high.mean(axis=0) if is_interval else values.max(axis=0),
        is_interval,
        np.zeros(len(names)) if estimator == "debiased" else diagonal("chance").mean(axis=0),
        diagonal("z").min(axis=0),
        (diagonal("too_few") == 1).any(axis=0) & np.isfinite(values.mean(axis=0)),
        min(whole(r, "count") for r in found),
        len(found),
    )


def _shared(record: Record) -> dict[str, tuple[int, int]]:
    """The layers that both models have, and where they stand."""
    rows, columns = (list(map(str, record.results[f"layers_{s}"])) for s in "ab")
    return {n: (i, columns.index(n)) for i, n in enumerate(rows) if n in columns}


def _matrix(record: Record, field: str) -> np.ndarray:
    """A result [La, Lb]; NaN where the record has none of the name."""
    shape = np.shape(record.results["debiased"])
    return np.asarray(record.results.get(field, np.full(shape, np.nan)), np.float64)


def matrices(
    records: Records, estimator: str = "debiased"
) -> dict[Pair, tuple[list[str], list[str], np.ndarray]]:
    """The first pair's layers and [La, Lb] similarities, by kind of pair."""
    result = {}
    for kinds, found in by_pair(records, "similarity").items():
        if estimator in found[0].results:
            rows, columns = (list(map(str, found[0].results[f"layers_{s}"])) for s in "ab")
            result[kinds] = rows, columns, _matrix(found[0], estimator)
    return result


def mean_similarity(found: Layers) -> Estimate:
    """The mean over layers, from the mean lower to the mean upper ends; or UNKNOWN."""
    return mean([found.estimate(i) for i in range(len(found.names))])


def shuffled(records: Records) -> dict[str, dict[Pair, Layers]]:
    """The debiased similarities on shuffled images, by shuffle, the finest first."""
    records = usable(records, "similarity")
    names = {str(r.inputs.get("shuffle") or "none") for r in records} - {"none"}
    found = {name: layers(records, shuffle=name) for name in sorted(names, key=rank)}
    return {name: groups for name, groups in found.items() if groups}


def by_step(records: Records) -> dict[Pair, BySteps]:
    """The similarity over the checkpoints of the first run of each kind, to P."""
    found = by_pair(records, "similarity_trajectory")
    return {kinds: _by_step(own) for kinds, own in found.items()}


def _by_step(found: list[Record]) -> BySteps:
    results = found[0].results
    step = np.atleast_1d(results["step"])
    value = np.asarray(results["debiased"], np.float64)
    low, high = (
        np.asarray(results.get(name, np.full(value.shape, np.nan)), np.float64)
        for name in ("low", "high")
    )
    names = list(map(str, results["layers"]))
    return BySteps(names, step, value, low, high, whole(found[0], "count"), len(found))


def spatial(records: Records) -> list[str]:
    """What was done with the positions of feature maps; empty where it is not recorded."""
    found = {option(r, "spatial") for r in usable(records, "similarity")}
    return sorted(str(name) for name in found if name)
