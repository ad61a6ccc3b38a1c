"""Planes through models, basins, lines after permutation."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from tlx.records import Record, results
from tlx.report.read.lines import accuracy_barrier
from tlx.report.read.over_runs import RunPair, of_pairs, pairs_of
from tlx.report.read.selection import Records, by_pair, of_kind, of_test
from tlx.report.read.values import array, estimate, whole, word, words
from tlx.report.words.kinds import Pair
from tlx.report.words.numbers import Estimate
from tlx.report.words.verdicts import RI_T, Verdict, above

VARIANTS = {
    "plain": "as trained",
    "weights": "matched by weights",
    "activations": "matched by activations",
    "repaired": "… and renormalised",
}


class Plane(NamedTuple):
    """Loss and accuracy [Ky, Kx] on the plane through three models, at `models` [3, 2]."""

    labels: tuple[str, ...]
    kinds: tuple[str, ...]
    x: np.ndarray
    y: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray
    models: np.ndarray
    num_images: int


class Basin(NamedTuple):
    """A pair as an (epsilon, delta)-basin: [D] arrays over the scan of delta.

    `verdict` is whether the two are in one basin, by the interval of the error's barrier.
    `unit` is that of epsilon and the rises: "error" (a fraction) or "nats".
    """

    verdict: Verdict
    loss: Estimate
    error: Estimate
    tolerance: float
    unit: str
    epsilon: Estimate
    delta: float
    deltas: np.ndarray
    noise: np.ndarray
    noise_error: np.ndarray
    beyond: np.ndarray
    beyond_error: np.ndarray
    num_draws: int
    num_parameters: int
    num_images: int
    runs: RunPair


def over_runs(found: Sequence[Basin]) -> tuple[Estimate, Estimate]:
    """The means over the pairs of the error's and of the loss's barrier."""
    pairs = [basin.runs for basin in found]
    return of_pairs(pairs, [b.error for b in found]), of_pairs(pairs, [b.loss for b in found])


class Variant(NamedTuple):
    """The lines between two RI-T in one order of their units, averaged over the pairs."""

    name: str
    alphas: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray
    loss_barrier: Estimate
    accuracy_barrier: Estimate
    distance: Estimate
    num_pairs: int
    num_images: int


def planes(records: Records) -> list[Plane]:
    """The planes, those with more P-T first; test images where there are any."""
    every = of_kind(records, "plane", "x", "y", "loss", "accuracy", "models_xy")
    found = of_test([r for r in every if len(r.inputs.get("kinds") or ()) == 3])
    found = sorted(found, key=lambda r: -list(r.inputs["kinds"]).count("P-T"))
    labels = _labels(found)
    return [_plane(r, labels) for r in found]


def _plane(record: Record, labels: dict[str, str]) -> Plane:
    models = [str(m) for m in record.inputs.get("models") or range(3)]
    found: results.Plane = record.results
    return Plane(
        tuple(labels[m] for m in models),
        tuple(map(str, record.inputs["kinds"])),
        np.asarray(found.x, np.float64),
        np.asarray(found.y, np.float64),
        np.asarray(found.loss, np.float64),
        np.asarray(found.accuracy, np.float64),
        np.asarray(found.models_xy, np.float64),
        whole(found.num_examples),
    )


def _labels(found: Iterable[Record]) -> dict[str, str]:
    """A short name for each model: its kind, numbered where there are more of it."""
    kinds: dict[str, str] = {}
    for record in found:
        kinds.update(
            zip(map(str, record.inputs.get("models") or range(3)), record.inputs["kinds"],
                strict=False)
        )  # fmt: skip
    labels = {}
    for kind in set(kinds.values()):
        own = sorted(m for m, k in kinds.items() if k == kind)
        labels.update({m: f"{kind} {i}" if own[1:] else kind for i, m in enumerate(own, 1)})
    return labels


def basins(records: Records) -> dict[Pair, list[Basin]]:
    """A basin a pair, by kind of pair."""
    needed = ("verdict", "deltas", "noise_rise", "beyond_rise")
    return {
        k: [_basin(r) for r in group] for k, group in by_pair(records, "basin", *needed).items()
    }


def _basin(record: Record) -> Basin:
    found: results.Basin = record.results
    n, deltas = whole(found.num_examples), np.atleast_1d(np.asarray(found.deltas, np.float64))
    tolerance = float(found.tolerance)
    error = estimate(found.error_barrier, found.error_low, found.error_high, n=n)
    # The recorded word stands where the recorded interval says the same.
    inside: dict[Verdict, Verdict] = {"no": "yes", "yes": "no", "open": "open"}
    verdict = inside[above(error, tolerance)]
    is_loss = record.options.get("loss") in ("loss", "cross_entropy", "nats")
    return Basin(
        verdict if verdict == word(found.verdict) else "open",
        estimate(found.barrier, found.barrier_low, found.barrier_high, n=n),
        error,
        tolerance,
        "nats" if is_loss else "error",
        Estimate(float(found.epsilon), float(found.epsilon_error)),
        float(found.delta),
        deltas,
        array(found.noise_rise, deltas.shape),
        array(found.noise_rise_error, deltas.shape),
        array(found.beyond_rise, deltas.shape),
        array(found.beyond_rise_error, deltas.shape),
        whole(found.num_draws),
        whole(found.num_parameters),
        n,
        pairs_of([record])[0],
    )


def permuted(records: Records) -> list[Variant]:
    """The lines between two RI-T as trained and in other orders; [] without data."""
    groups = by_pair(records, "permutation", "alphas", "variants", "loss", "accuracy")
    every = groups.get(RI_T, [])
    shapes = [r.results.alphas.shape for r in every]
    same = [r for r, shape in zip(every, shapes, strict=True) if shape == shapes[0]]
    variants = {name: [r for r in same if name in words(r.results.variants)] for name in VARIANTS}
    return [_variant(name, found) for name, found in variants.items() if found]


def _variant(name: str, group: list[Record]) -> Variant:
    each: list[tuple[results.Permutation, int]] = [
        (r.results, words(r.results.variants).index(name)) for r in group
    ]
    alphas = np.asarray(each[0][0].alphas, np.float64)
    return Variant(
        name,
        alphas,
        np.mean([array(found.loss[i], alphas.shape) for found, i in each], axis=0),
        np.mean([array(found.accuracy[i], alphas.shape) for found, i in each], axis=0),
        of_pairs(pairs_of(group), [_loss_barrier(found, i) for found, i in each]),
        of_pairs(pairs_of(group), [_accuracy_barrier(found, i) for found, i in each]),
        of_pairs(pairs_of(group), [Estimate(_of(found.distance, found, i)) for found, i in each]),
        len(each),
        min(whole(found.num_examples) for found, _ in each),
    )


def _loss_barrier(found: results.Permutation, i: int) -> Estimate:
    ends = (found.barrier, found.barrier_low, found.barrier_high)
    return estimate(*(_of(end, found, i) for end in ends), n=whole(found.num_examples))


def _accuracy_barrier(found: results.Permutation, i: int) -> Estimate:
    ends = (found.accuracy_barrier, found.accuracy_barrier_low, found.accuracy_barrier_high)
    barrier = estimate(*(_of(end, found, i) for end in ends), n=whole(found.num_examples))
    return accuracy_barrier(found.alphas, found.accuracy[i], barrier)


def _of(values: np.ndarray, found: results.Permutation, i: int) -> float:
    """The value of a variant; NaN where it was not measured."""
    return float(array(values, found.variants.shape)[i])
