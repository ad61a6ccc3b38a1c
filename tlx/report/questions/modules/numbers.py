"""Single modules: rewound, in noise, and how they moved."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tlx.records import Record, results
from tlx.report.read.over_runs import of_pairs, of_runs, pairs_of
from tlx.report.read.selection import Records, by_kind, by_pair, unshuffled
from tlx.report.read.values import array, estimate, is_known, whole, words
from tlx.report.words.kinds import ON_TARGET, Pair, short
from tlx.report.words.numbers import UNKNOWN, Estimate, mean, significant, text

_OfModules = results.Rewinding | results.Criticality | results.Movement

PATHS = ("direct", "optimisation")
"""From a module's start to its trained value: straight, or through the run's checkpoints."""

SAYS_NOTHING = 0.99
"""A bound on an error from which it says nothing."""


class Rewound(NamedTuple):
    """A kind of run with one module at a time rewound to a checkpoint.

    Attributes:
      lost: module -> test accuracy lost at the first checkpoint, mean over the runs; of few its
        error is the largest that the accuracies allow, see `drop`.
      mean: over the modules.
      risen: module -> rise of the test loss there, in nats.
      names, step, drop: by step, of the first run: [M], [T], [M, T].
    """

    lost: dict[str, Estimate]
    mean: Estimate
    risen: dict[str, float]
    names: list[str]
    step: np.ndarray
    drop: np.ndarray
    num_images: int
    num_runs: int


class Critical(NamedTuple):
    """A kind of run on a path: means over the runs, and the surfaces of the first one.

    Attributes:
      value: module -> criticality; inf where no point of the grid is within the threshold.
      total: their sum.
      bound: PAC-Bayes, on the error; NaN where it is undefined.
      names, distances, sigmas, error: [M], [M, A], [S], [M, A, S].
      threshold: of the error.
      least: [M, 2], index of the minimiser on the path and in sigma; NaN where there is none.
      tolerance: of the error above the trained one's; NaN where it was not recorded.
      over_runs: "total" and "first", of all modules and of the first, with intervals over runs.
    """

    value: dict[str, float]
    total: float
    bound: float
    names: list[str]
    distances: np.ndarray
    sigmas: np.ndarray
    error: np.ndarray
    threshold: float
    least: np.ndarray
    tolerance: float
    step: list[int]
    num_draws: int
    num_images: int
    num_runs: int
    over_runs: dict[str, Estimate]


class Moved(NamedTuple):
    """How far a kind of run went, means over its runs: module -> l2 norm, and of all as one."""

    distance: dict[str, float]
    path: dict[str, float]
    total: Estimate
    num_runs: int


class Alike(NamedTuple):
    """Cosines of two runs' movements by module: [M], means over the pairs; z is the least."""

    names: list[str]
    cosine: np.ndarray
    chance: np.ndarray
    z: np.ndarray
    total: Estimate
    total_z: float
    num_pairs: int

    @property
    def single(self) -> np.ndarray:
        """Whether a module has but one weight, whose movements can only be alike or opposite."""
        return self.chance >= 1


def drop(trained: float, rewound: float, n: int) -> Estimate:
    """Trained − rewound accuracy on the same n images, with the most its error can be.

    Of d = trained − rewound the variance is (s − d²) / n, where s is the share of images that
    only one of the two gets right. That is at most min(2 − trained − rewound, trained + rewound).
    Never below an error of one image.
    """
    lost = trained - rewound
    if n < 1 or not np.isfinite(lost):
        return Estimate(lost, n=max(n, 0))
    apart = min(2 - trained - rewound, trained + rewound)
    return Estimate(lost, float(np.sqrt(max(apart - lost**2, 1 / n) / n)), n)


def rewound(records: Records) -> dict[str, Rewound]:
    """What is lost where a module is rewound, by kind of run."""
    found = unshuffled(records, "rewinding", "modules", "step", "accuracy_drop")
    groups = by_kind(found, ON_TARGET)
    return {kind: _rewound([r.results for r in group]) for kind, group in groups.items()}


def _rewound(found: list[results.Rewinding]) -> Rewound:
    each = [_lost(f) for f in found]
    first = found[0]
    return Rewound(
        {name: of_runs([lost.get(name, UNKNOWN) for lost in each]) for name in _names(found)},
        of_runs([mean(list(lost.values())) for lost in each]),
        _means(found, [_first(f.loss, f) - float(f.trained_loss) for f in found]),
        words(first.modules),
        np.atleast_1d(first.step),
        np.asarray(first.accuracy_drop, np.float64),
        min(whole(f.num_examples) for f in found),
        len(found),
    )


def _first(values: np.ndarray, found: results.Rewinding) -> np.ndarray:
    """Values [M] of the modules at the first checkpoint."""
    return array(values, found.accuracy_drop.shape)[:, 0]


def _lost(found: results.Rewinding) -> dict[str, Estimate]:
    n, trained = whole(found.num_examples), float(found.trained_accuracy)
    ends = (found.accuracy_drop, found.accuracy_drop_low, found.accuracy_drop_high)
    made = {}
    for name, *triple in zip(words(found.modules), *(_first(e, found) for e in ends), strict=True):
        lost = estimate(*triple, n=n)
        # Without the trained accuracy the difference stands alone.
        bound = drop(trained, trained - lost.value, n) if np.isfinite(trained) else lost
        made[name] = bound._replace(interval=lost.interval)
    return made


def critical(records: Records, path: str = "direct") -> dict[str, Critical]:
    """How critical the modules are on a path, by kind of run."""
    needed = ("modules", "alphas", "sigmas", "distances", "error", "criticality")
    every = unshuffled(records, "criticality", *needed)
    groups = by_kind([r for r in every if r.inputs.get("path") == path], ON_TARGET)
    return {kind: _critical(group) for kind, group in groups.items()}


def _critical(group: list[Record]) -> Critical:
    found: list[results.Criticality] = [r.results for r in group]
    first, tolerance = found[0], group[0].options.get("tolerance")
    each = [np.asarray(f.criticality, np.float64) for f in found]
    value = _means(found, each)
    sigmas = np.asarray(first.sigmas, np.float64)
    places = ((first.alphas, first.alpha), (sigmas, first.sigma))
    return Critical(
        value,
        float(np.sum(list(value.values()))),
        float(np.mean([float(f.bound) for f in found])),
        words(first.modules),
        np.asarray(first.distances, np.float64),
        sigmas,
        np.asarray(first.error, np.float64),
        float(first.threshold),
        np.stack([_index(axis, array(at, first.modules.shape)) for axis, at in places], axis=1),
        float(tolerance) if isinstance(tolerance, int | float) else np.nan,
        np.atleast_1d(first.step).astype(int).tolist() if is_known(first.step) else [],
        whole(first.num_draws),
        min(whole(f.num_examples) for f in found),
        len(found),
        {
            "total": of_runs([Estimate(float(values.sum())) for values in each]),
            "first": of_runs([Estimate(float(values[0])) for values in each if values.size]),
        },
    )


def _index(axis: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Where values stand on an axis; NaN where they are NaN."""
    nearest = np.abs(axis - at[:, None]).argmin(axis=1)
    return np.where(np.isfinite(at), nearest, np.nan)


def says(bound: float) -> bool:
    """Whether a bound on an error says something."""
    return bound < SAYS_NOTHING


def moved(records: Records) -> dict[str, Moved]:
    """How far the modules went, by kind of run."""
    groups = by_kind(unshuffled(records, "movement", "modules", "displacement", "path"), ON_TARGET)
    return {kind: _moved([r.results for r in group]) for kind, group in groups.items()}


def _moved(found: list[results.Movement]) -> Moved:
    return Moved(
        _means(found, [f.displacement[-1] for f in found]),
        _means(found, [f.path[-1] for f in found]),
        of_runs([Estimate(float(np.ravel(f.total_displacement)[-1])) for f in found]),
        len(found),
    )


def alike(records: Records) -> dict[Pair, Alike]:
    """Whether two runs moved alike, by kind of pair."""
    groups = by_pair(records, "movement_alignment", "modules", "cosine", "z")
    return {kinds: _alike(group) for kinds, group in groups.items()}


def _alike(every: list[Record]) -> Alike:
    names = words(every[0].results.modules)
    group = [r for r in every if words(r.results.modules) == names]
    same: list[results.MovementAlignment] = [r.results for r in group]
    return Alike(
        names,
        np.mean([array(f.cosine, (len(names),)) for f in same], axis=0),
        np.mean([array(f.chance, (len(names),)) for f in same], axis=0),
        np.min([np.asarray(f.z, np.float64) for f in same], axis=0),
        of_pairs(pairs_of(group), [Estimate(float(f.total_cosine)) for f in same]),
        float(np.min([float(f.total_z) for f in same])),
        len(same),
    )


def _names(found: Sequence[_OfModules]) -> list[str]:
    return list(dict.fromkeys(name for f in found for name in words(f.modules)))


def _means(found: Sequence[_OfModules], values: Sequence[np.ndarray]) -> dict[str, float]:
    """The mean over the runs that have a module, by module, from [M] of each run."""
    each = [
        dict(zip(words(f.modules), own.tolist(), strict=True))
        for f, own in zip(found, values, strict=True)
    ]
    return {n: float(np.mean([own[n] for own in each if n in own])) for n in _names(found)}


def rounded(value: float) -> str:
    """A criticality to two digits, for it is the least on a coarse grid; "∞"."""
    if np.isposinf(value):
        return "∞"
    if abs(value) >= 9.95e5 and np.isfinite(value):
        digits, exponent = f"{value:.1e}".split("e")
        return f"{digits}e{int(exponent)}"
    return significant(float(f"{value:.1e}") if np.isfinite(value) else value, 2)


def worded(module: str) -> str:
    """A module's name for a sentence: "block 1.2", "head"."""
    name = short(module)
    return name if name == module else f"block {name}"


def cosine_text(cosine: Estimate) -> str:
    """A cosine to two decimals, or with its interval."""
    if cosine.interval is not None:
        return text(cosine, most=3)
    return f"{cosine.value + 0.0:.2f}".replace("-0.00", "0.00").replace("-", "−")
