"""Planes through models, basins, lines after permutation."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from tlx.records import Record
from tlx.report.read.lines import dip
from tlx.report.read.selection import Records, by_pair, option, usable
from tlx.report.read.values import estimate, number, whole
from tlx.report.words.kinds import Pair
from tlx.report.words.numbers import Estimate, mean
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
    found = [r for r in usable(records, "plane") if len(r.inputs.get("kinds") or ()) == 3]
    test = [r for r in found if str(r.inputs.get("split", "test")) == "test"]
    found = sorted(test or found, key=lambda r: -list(r.inputs["kinds"]).count("P-T"))
    labels = _labels(found)
    return [_plane(r, labels) for r in found]


def _plane(record: Record, labels: dict[str, str]) -> Plane:
    models = [str(m) for m in record.inputs.get("models") or range(3)]
    x, y, loss, accuracy, xy = (
        np.asarray(record.results[name], np.float64)
        for name in ("x", "y", "loss", "accuracy", "models_xy")
    )
    kinds = tuple(map(str, record.inputs["kinds"]))
    names = tuple(labels[m] for m in models)
    return Plane(names, kinds, x, y, loss, accuracy, xy, whole(record, "count"))


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
    return {k: [_basin(r) for r in found] for k, found in by_pair(records, "basin").items()}


def _basin(record: Record) -> Basin:
    deltas = np.atleast_1d(np.asarray(record.results["deltas"], np.float64))

    def series(name: str) -> np.ndarray:
        values = np.atleast_1d(np.asarray(record.results.get(name, np.nan), np.float64))
        return values if values.shape == deltas.shape else np.full(deltas.shape, np.nan)

    unit = "nats" if option(record, "loss") in ("loss", "cross_entropy", "nats") else "error"
    error, tolerance = estimate(record, "error_barrier", ends="error"), number(record, "tolerance")
    # The recorded word stands where the recorded interval says the same.
    inside: dict[Verdict, Verdict] = {"no": "yes", "yes": "no", "open": "open"}
    verdict = inside[above(error, tolerance)]
    return Basin(
        verdict if verdict == str(record.results["verdict"]) else "open",
        estimate(record, "barrier"),
        error,
        tolerance,
        unit,
        Estimate(number(record, "epsilon"), number(record, "epsilon_error")),
        number(record, "delta"),
        deltas,
        series("noise_rise"),
        series("noise_rise_error"),
        series("beyond_rise"),
        series("beyond_rise_error"),
        whole(record, "num_draws"),
        whole(record, "num_parameters"),
        whole(record, "count"),
    )


def permuted(records: Records) -> list[Variant]:
    """The lines between two RI-T as trained and in other orders; [] without data."""
    found = by_pair(records, "permutation").get(RI_T, [])
    found = [r for r in found if r.results["alphas"].shape == found[0].results["alphas"].shape]
    every = [_variant(name, [r for r in found if f"loss_{name}" in r.results]) for name in VARIANTS]
    return [v for v in every if v is not None]


def _variant(name: str, found: list[Record]) -> Variant | None:
    if not found:
        return None

    def line(field: str) -> np.ndarray:
        values = [np.asarray(r.results[f"{field}_{name}"], np.float64) for r in found]
        return np.asarray(np.mean(values, axis=0))

    distance = {"plain": "distance_before"}.get(name, f"distance_{name}")
    return Variant(
        name,
        np.asarray(found[0].results["alphas"], np.float64),
        line("loss"),
        line("accuracy"),
        mean([estimate(r, f"barrier_{name}") for r in found]),
        mean([dip(r, f"_{name}") for r in found]),
        mean([Estimate(number(r, distance)) for r in found]),
        len(found),
        min(whole(r, "count") for r in found),
    )
