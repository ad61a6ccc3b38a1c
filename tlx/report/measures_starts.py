"""Numbers about P's checkpoints, on the source and as starts, and about targets' distances."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tlx.records import Record
from tlx.report.measures import Records, number, option, usable, whole
from tlx.report.measures_sweeps import Sweep
from tlx.report.numbers import Estimate


class Checkpoints(NamedTuple):
    """P's own checkpoints on the source's test images: [C], by step; NaN where undefined.

    Attributes:
        step: int [C].
        accuracy: [C].
        barrier: [3, C]: how far the 0-1 error rises above its chord on the line from the
            checkpoint to the last one, and the ends of the interval.
        verdict: [C] "yes", "no" or "open": in the basin of the last one.
        tolerance: the largest barrier inside a basin.
        num_images: test images of the source.
        confidence: the level of the intervals; NaN where unknown.
    """

    step: np.ndarray
    accuracy: np.ndarray
    barrier: np.ndarray
    verdict: list[str]
    tolerance: float
    num_images: int
    confidence: float

    def barrier_of(self, i: int) -> Estimate:
        """Returns the error barrier of checkpoint ``i``, a fraction, with its interval."""
        value, low, high = map(float, self.barrier[:, i])
        known = bool(np.isfinite([low, high]).all())
        return Estimate(value, n=self.num_images, interval=(low, high) if known else None)


class Transferability(NamedTuple):
    """Scores of checkpoints beside what fine-tuning them gave: M scores, C checkpoints.

    Attributes:
        values: [C] names of the checkpoints.
        measured: [C] mean final test accuracy.
        names: [M] of the scores.
        score: [M, C].
        weighted_tau, p_weighted_tau, kendall, p_kendall, p_holm: [M].
        num_images: training images that were scored.
        layer: whose features they read; "" where unknown.
    """

    values: list[str]
    measured: np.ndarray
    names: list[str]
    score: np.ndarray
    weighted_tau: np.ndarray
    p_weighted_tau: np.ndarray
    kendall: np.ndarray
    p_kendall: np.ndarray
    p_holm: np.ndarray
    num_images: int
    layer: str


class Domains(NamedTuple):
    """How far targets are from the source, in P's features.

    Attributes:
        distance: target -> Fréchet distance; NaN where undefined.
        floor: between the source's training and its test images.
        source: its name.
        layer: whose features; "" where unknown.
        num_features: their number.
        num_images: the fewest images of a target.
    """

    distance: dict[str, float]
    floor: float
    source: str
    layer: str
    num_features: int
    num_images: int


def checkpoints(records: Records) -> Checkpoints | None:
    """Returns P's checkpoints in the order of their steps; None without a record of them."""
    found = usable(records, "checkpoints")
    if not found:
        return None
    record = found[0]
    step = np.atleast_1d(np.asarray(record.results["step"])).astype(np.int64)
    order = np.argsort(step, kind="stable")
    ends = ("barrier", "barrier_low", "barrier_high")
    barrier = np.stack([_array(record, name, step.size)[order] for name in ends])
    verdicts = np.atleast_1d(record.results["verdict"])[order]
    level = option(record, "confidence")
    return Checkpoints(
        step[order],
        _array(record, "accuracy", step.size)[order],
        barrier,
        [str(v) for v in np.where(np.isfinite(barrier[0]), verdicts, "open")],
        number(record, "tolerance"),
        whole(record, "count"),
        float(level) if isinstance(level, int | float) else float("nan"),
    )


def transferability(records: Records) -> Transferability | None:
    """Returns the scores of P's checkpoints; None without a record of them."""
    found = usable(records, "transferability")
    if not found:
        return None
    record = found[0]
    values, names = (
        [str(v) for v in np.atleast_1d(record.results[name])] for name in ("values", "scores")
    )
    tested = {
        name: _array(record, name, len(names))
        for name in ("weighted_tau", "p_weighted_tau", "kendall", "p_kendall", "p_holm")
    }
    return Transferability(
        values=values,
        measured=_array(record, "measured", len(values)),
        names=names,
        score=np.asarray(record.results["score"], np.float64).reshape(len(names), len(values)),
        num_images=whole(record, "count"),
        layer=str(option(record, "layer") or ""),
        **tested,
    )


def domains(records: Records) -> Domains | None:
    """Returns the distances of the targets; None without a record of them."""
    found = usable(records, "domains")
    if not found:
        return None
    record = found[0]
    targets = [str(name) for name in np.atleast_1d(record.results["targets"])]
    distance = _array(record, "distance", len(targets))
    counts = _array(record, "count", len(targets))
    known = counts[np.isfinite(counts)]
    return Domains(
        dict(zip(targets, distance.tolist(), strict=True)),
        number(record, "floor"),
        str(record.results.get("source", "")),
        str(option(record, "layer") or ""),
        whole(record, "num_features"),
        int(known.min()) if known.size else 0,
    )


def steps(found: Sweep) -> np.ndarray:
    """Returns the training steps of P that the sweep starts from, float [C]; NaN for no number."""
    return np.array([float(v) if v.isdigit() else np.nan for v in found.values])


def difference(found: Sweep, i: int) -> Estimate:
    """Returns the difference of final accuracies; its interval only where it covers other runs."""
    value = found.difference_of(i)
    return value if "seeds" in found.chance[i] else value._replace(interval=None)


def as_good(found: Sweep) -> int | None:
    """Returns the first start from which on none ends measurably below the last one.

    Its index, that of the last where only that will do; None where it is unknown, as where
    intervals do not cover other runs.
    """
    if any(difference(found, i).interval is None for i in range(len(found.values) - 1)):
        return None
    name = str(found.earliest)
    return found.values.index(name) if name in found.values else never_below(found.difference[1])


def never_below(low: np.ndarray) -> int | None:
    """Returns the first value from which on no difference from the last is above 0.

    Args:
        low: [C] lower ends of the last one's value less this one's; the last is not read.

    Returns:
        Its index, that of the last where the one before it is measurably lower; None where an
        end is undefined, or there is one value only.
    """
    if low.size < 2 or not np.isfinite(low[:-1]).all():
        return None
    lower = np.flatnonzero(low[:-1] > 0)
    return int(lower[-1]) + 1 if lower.size else 0


def _array(record: Record, name: str, size: int) -> np.ndarray:
    """Returns a result as float64 [size]; NaN where the record has none, or of another size."""
    value = np.asarray(record.results.get(name, np.nan), np.float64)
    return np.array(np.broadcast_to(value.ravel() if value.size in (1, size) else np.nan, size))
