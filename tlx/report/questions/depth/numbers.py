"""Single layers: what can be read from them, what taking them brings, spectra."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tlx.records import Record
from tlx.report.read.learning import Curve, curve
from tlx.report.read.selection import Records, option, usable
from tlx.report.read.values import whole
from tlx.report.words.kinds import KINDS
from tlx.report.words.numbers import Estimate, mean, text

PROBED = (*KINDS, "RI")
"""The kinds whose layers are read; RI has random weights."""

WAYS = {
    "first": "first k",
    "first:frozen": "first k, frozen",
    "except": "all but first k",
    "except:frozen": "all but first k, frozen",
}
"""Which modules are taken from P, and whether they are trained."""

_PART = re.compile(r"(first|except):(\d+)(:frozen)?")


class Probes(NamedTuple):
    """Linear probes of the layers of a kind of model: [L], means over its runs."""

    names: list[str]
    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray
    num_features: np.ndarray
    num_train: int
    num_images: int
    num_classes: int
    spatial: str
    num_runs: int

    def estimate(self, i: int) -> Estimate:
        """The accuracy of layer `i` as an estimate, with its interval if it has one."""
        ends = (float(self.low[i]), float(self.high[i]))
        known = bool(np.isfinite(ends).all())
        value = float(self.accuracy[i])
        return Estimate(value, n=self.num_images, interval=ends if known else None)

    def of(self, name: str) -> Estimate:
        """The accuracy of the layer of a name; UNKNOWN where there is none."""
        return mean([self.estimate(i) for i, own in enumerate(self.names) if own == name])

    def best(self) -> str | None:
        """The layer with the highest accuracy, the first of equals; None: no value."""
        if not np.isfinite(self.accuracy).any():
            return None
        return self.names[int(np.nanargmax(self.accuracy))]


class Spectrum(NamedTuple):
    """The layers of one trained model: [L], and their singular values [L, Q], falling."""

    run: str
    names: list[str]
    quantiles: np.ndarray
    values: np.ndarray
    stable_rank: np.ndarray
    spectral_norm: np.ndarray


def linear_probes(records: Records) -> dict[str, Probes]:
    """The probes on the unshuffled target's test images, by kind, in PROBED's order.

    Each run's are those of its last step that was probed; those of RI are of step 0.
    """
    found = [
        r
        for r in _plain(records, "probes")
        if str(r.inputs.get("split", "test")) == "test" and np.size(r.results["layers"])
    ]
    found.sort(key=lambda r: int(r.inputs.get("step") or 0))
    last = {(r.inputs.get("run"), r.inputs.get("kind")): r for r in found}
    return {kind: _probes(own) for kind, own in _by_kind(list(last.values()), PROBED).items()}


def _probes(found: Sequence[Record]) -> Probes:
    names = [str(n) for n in np.atleast_1d(found[0].results["layers"])]
    found = [r for r in found if list(map(str, np.atleast_1d(r.results["layers"]))) == names]

    def average(field: str) -> np.ndarray:
        rows = [np.asarray(r.results.get(field, np.nan), np.float64) for r in found]
        values = np.mean([np.broadcast_to(row, len(names)) for row in rows], axis=0)
        return np.where(np.isfinite(values), values, np.nan)

    return Probes(
        names,
        average("accuracy"),
        average("low"),
        average("high"),
        average("num_features"),
        num_train=whole(found[0], "num_train"),
        num_images=whole(found[0], "count"),
        num_classes=whole(found[0], "num_classes"),
        spatial=str(found[0].results.get("spatial", "")),
        num_runs=len(found),
    )


def gain(trained: Estimate, random: Estimate) -> Estimate:
    """Trained - random, with the interval of R. G. Newcombe (1998, method 10).

    That is of two proportions in independent samples; of the same images it is wider than it
    needs to be where the two models tend to be right about the same ones.
    """
    value = trained.value - random.value
    if trained.interval is None or random.interval is None:
        return Estimate(value, n=trained.n)
    down = math.hypot(trained.value - trained.interval[0], random.interval[1] - random.value)
    up = math.hypot(trained.interval[1] - trained.value, random.value - random.interval[0])
    return Estimate(value, n=trained.n, interval=(value - down, value + up))


def partial(records: Records) -> dict[str, dict[int, list[Curve]]]:
    """The runs that take k modules from P, by way (as in WAYS) and k, rising."""
    found: dict[str, dict[int, list[Curve]]] = {way: {} for way in WAYS}
    for record in _plain(records, "curves"):
        match = _PART.fullmatch(str(record.inputs.get("part") or ""))
        if match:
            own = found[match[1] + (match[3] or "")]
            own.setdefault(int(match[2]), []).append(curve(record))
    return {way: dict(sorted(own.items())) for way, own in found.items() if own}


def final_by_k(runs: dict[int, list[Curve]]) -> dict[int, Estimate]:
    """The mean final test accuracy by k, where it is known."""
    return _known({k: mean([c.final for c in own]) for k, own in runs.items()})


def speed_by_k(runs: dict[int, list[Curve]]) -> dict[int, Estimate]:
    """The mean average training accuracy by k, where it is known."""
    return _known({k: mean([c.speed for c in own]) for k, own in runs.items()})


def _known(values: dict[int, Estimate]) -> dict[int, Estimate]:
    return {k: value for k, value in values.items() if value.known}


def spectra(records: Records) -> dict[str, Spectrum]:
    """The first run of each kind after its last step, as `operator` says."""
    wanted = operator(records)
    found = [r for r in _plain(records, "spectra") if str(option(r, "kind") or "") == wanted]
    return {kind: _spectrum(own[0]) for kind, own in _by_kind(found, KINDS).items()}


def operator(records: Records) -> str:
    """As what convolutions are seen in the spectra; of several, the first by name."""
    kinds = {str(option(r, "kind") or "") for r in _plain(records, "spectra")}
    return min(kinds, default="")


def _spectrum(record: Record) -> Spectrum:
    def last(field: str) -> np.ndarray:
        return np.atleast_2d(np.asarray(record.results[field], np.float64))[-1]

    return Spectrum(
        str(record.inputs.get("run", "")),
        [str(n) for n in np.atleast_1d(record.results["layers"])],
        np.asarray(record.results["quantiles"], np.float64),
        np.atleast_2d(np.asarray(record.results["singular_values"], np.float64)),
        last("stable_rank"),
        last("spectral_norm"),
    )


def ratios(found: Spectrum, to: Spectrum) -> np.ndarray:
    """Stable rank over that of the same layer of the other, where both are defined."""
    theirs = dict(zip(to.names, to.stable_rank.tolist(), strict=True))
    both = [
        (own, theirs[name])
        for name, own in zip(found.names, found.stable_rank.tolist(), strict=True)
        if name in theirs
    ]
    known = [(a, b) for a, b in both if math.isfinite(a) and math.isfinite(b) and b > 0]
    return np.array([a / b for a, b in known], np.float64)


def percentages(value: Estimate) -> str:
    """A share with its interval in percent; "no data" where it is unknown."""
    said = text(value, 100.0, most=1)
    return f"{said}%" if value.known else said


def _plain(records: Records, question: str) -> list[Record]:
    """The records of unshuffled runs, by run."""
    found = [
        r for r in usable(records, question) if str(r.inputs.get("shuffle") or "none") == "none"
    ]
    return sorted(found, key=lambda r: str(r.inputs.get("run", "")))


def _by_kind(found: Sequence[Record], kinds: Sequence[str]) -> dict[str, list[Record]]:
    groups = {k: [r for r in found if str(r.inputs.get("kind", "")) == k] for k in kinds}
    return {k: own for k, own in groups.items() if own}
