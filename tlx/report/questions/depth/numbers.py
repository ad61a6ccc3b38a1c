"""Single layers: what can be read from them, what taking them brings, spectra."""

import math
import re
from typing import NamedTuple

import numpy as np

from tlx.records import Record, results
from tlx.report.read.learning import Curve, curve
from tlx.report.read.selection import Records, by_kind, unshuffled
from tlx.report.read.values import array, estimate, whole, word, words
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
        return estimate(self.accuracy[i], self.low[i], self.high[i], n=self.num_images)

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
        for r in unshuffled(records, "linear_probes", "layers", "accuracy")
        if str(r.inputs.get("split", "test")) == "test" and r.results.layers.size
    ]
    found.sort(key=lambda r: int(r.inputs.get("step") or 0))
    last = {(r.inputs.get("run"), r.inputs.get("kind")): r for r in found}
    groups = by_kind(list(last.values()), PROBED)
    return {kind: _probes([r.results for r in group]) for kind, group in groups.items()}


def _probes(every: list[results.LinearProbes]) -> Probes:
    names = words(every[0].layers)
    found = [f for f in every if words(f.layers) == names]

    def average(field: str) -> np.ndarray:
        values = np.mean([array(getattr(f, field), (len(names),)) for f in found], axis=0)
        return np.where(np.isfinite(values), values, np.nan)

    return Probes(
        names,
        average("accuracy"),
        average("low"),
        average("high"),
        average("num_features"),
        num_train=whole(found[0].num_train),
        num_images=whole(found[0].num_examples),
        num_classes=whole(found[0].num_classes),
        spatial=word(found[0].spatial),
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
    for record in unshuffled(records, "learning_curve", "step", "test_accuracy"):
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
    found = [r for r in _spectra(records) if str(r.options.get("kind") or "") == wanted]
    return {kind: _spectrum(group[0]) for kind, group in by_kind(found, KINDS).items()}


def operator(records: Records) -> str:
    """As what convolutions are seen in the spectra; of several, the first by name."""
    kinds = {str(r.options.get("kind") or "") for r in _spectra(records)}
    return min(kinds, default="")


def _spectra(records: Records) -> list[Record]:
    needed = ("layers", "stable_rank", "spectral_norm", "quantiles", "singular_values")
    return unshuffled(records, "spectra", *needed)


def _spectrum(record: Record) -> Spectrum:
    found: results.Spectra = record.results
    return Spectrum(
        str(record.inputs.get("run", "")),
        words(found.layers),
        np.asarray(found.quantiles, np.float64),
        np.atleast_2d(np.asarray(found.singular_values, np.float64)),
        np.atleast_2d(np.asarray(found.stable_rank, np.float64))[-1],
        np.atleast_2d(np.asarray(found.spectral_norm, np.float64))[-1],
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
