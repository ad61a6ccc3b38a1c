"""Single modules: set back, in noise, and how they moved."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tlx.records import Record
from tlx.report.read.selection import Records, by_pair, option, usable
from tlx.report.read.values import number, whole
from tlx.report.words.kinds import TRAINED, Pair, short
from tlx.report.words.numbers import UNKNOWN, Estimate, mean, over_runs, significant

PATHS = ("direct", "optimisation")
"""From a module's start to its trained value: straight, or through the run's checkpoints."""

SAYS_NOTHING = 0.99
"""A bound on an error from which it says nothing."""


class Rewound(NamedTuple):
    """A kind of run with one module at a time set back to a checkpoint.

    Attributes:
      lost: module -> test accuracy lost at the first checkpoint, mean over the runs; its error
        is the largest that the accuracies allow, see `drop`.
      risen: module -> rise of the test loss there, in nats.
      names, step, drop: by step, of the first run: [M], [T], [M, T].
    """

    lost: dict[str, Estimate]
    risen: dict[str, float]
    names: list[str]
    step: np.ndarray
    drop: np.ndarray
    num_images: int
    num_runs: int

    @property
    def mean(self) -> Estimate:
        """The accuracy lost at the first checkpoint, mean over the modules."""
        return mean(list(self.lost.values()))


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
    total: float
    num_runs: int


class Alike(NamedTuple):
    """Cosines of two runs' movements by module: [M], means over the pairs; z is the least."""

    names: list[str]
    cosine: np.ndarray
    chance: np.ndarray
    z: np.ndarray
    total: float
    total_z: float
    num_pairs: int

    @property
    def single(self) -> np.ndarray:
        """Whether a module has but one weight, whose movements can only be alike or opposite."""
        return self.chance >= 1


def by_kind(records: Records, question: str) -> dict[str, list[Record]]:
    """The records of unshuffled runs, P-T first, in the order of their names."""
    found = [
        r for r in usable(records, question) if str(r.inputs.get("shuffle") or "none") == "none"
    ]
    found = sorted(found, key=lambda r: str(r.inputs.get("run")))
    groups = {kind: [r for r in found if r.inputs.get("kind") == kind] for kind in TRAINED}
    return {kind: own for kind, own in groups.items() if own}


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
    """What is lost where a module is set back, by kind of run."""
    return {kind: _rewound(own) for kind, own in by_kind(records, "rewinding").items()}


def _rewound(found: list[Record]) -> Rewound:
    each = [_lost(r) for r in found]
    first = found[0]
    return Rewound(
        {name: mean([own.get(name, UNKNOWN) for own in each]) for name in _names(found)},
        _means(found, [_risen(r) for r in found]),
        list(map(str, first.results["modules"])),
        np.atleast_1d(first.results["step"]),
        _array(first, "accuracy_drop"),
        min(whole(r, "count") for r in found),
        len(found),
    )


def _lost(record: Record) -> dict[str, Estimate]:
    lost, trained = _array(record, "accuracy_drop")[:, 0], number(record, "trained_accuracy")
    names, n = list(map(str, record.results["modules"])), whole(record, "count")
    # Without the trained accuracy the difference stands alone.
    found = [
        drop(trained, trained - d, n) if np.isfinite(trained) else Estimate(float(d), n=n)
        for d in lost.tolist()
    ]
    if {"accuracy_drop_low", "accuracy_drop_high"} <= set(record.results):
        ends = (_array(record, f"accuracy_drop_{end}")[:, 0].tolist() for end in ("low", "high"))
        found = [e._replace(interval=own) for e, own in zip(found, zip(*ends, strict=True),
                                                            strict=True)]  # fmt: skip
    return dict(zip(names, found, strict=True))


def _risen(record: Record) -> np.ndarray:
    if "loss" not in record.results:
        return np.full(len(record.results["modules"]), np.nan)
    return _array(record, "loss")[:, 0] - number(record, "trained_loss")


def critical(records: Records, path: str = "direct") -> dict[str, Critical]:
    """How critical the modules are on a path, by kind of run."""
    groups = by_kind(records, "criticality")
    found = {k: [r for r in v if r.inputs.get("path") == path] for k, v in groups.items()}
    return {kind: _critical(own) for kind, own in found.items() if own}


def _critical(found: list[Record]) -> Critical:
    first = found[0]
    each = [_array(r, "criticality") for r in found]
    value = _means(found, each)
    axes = {"alpha": _array(first, "alphas"), "sigma": _array(first, "sigmas")}
    least = [_index(axis, _optional(first, name)) for name, axis in axes.items()]
    tolerance = option(first, "tolerance")
    return Critical(
        value,
        float(np.sum(list(value.values()))),
        float(np.mean([number(r, "bound") for r in found])),
        list(map(str, first.results["modules"])),
        _array(first, "distances"),
        axes["sigma"],
        _array(first, "error"),
        number(first, "threshold"),
        np.stack(least, axis=1),
        float(tolerance) if isinstance(tolerance, int | float) else np.nan,
        np.atleast_1d(first.results.get("step", [])).astype(int).tolist(),
        whole(first, "num_draws"),
        min(whole(r, "count") for r in found),
        len(found),
        {
            "total": over_runs([float(own.sum()) for own in each]),
            "first": over_runs([float(own[0]) for own in each if own.size]),
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
    return {kind: _moved(own) for kind, own in by_kind(records, "movement").items()}


def _moved(found: list[Record]) -> Moved:
    distance, path = (
        _means(found, [_array(r, name)[-1] for r in found]) for name in ("displacement", "path")
    )
    totals = [np.ravel(r.results.get("total_displacement", np.nan))[-1] for r in found]
    return Moved(distance, path, float(np.mean(totals)), len(found))


def alike(records: Records) -> dict[Pair, Alike]:
    """Whether two runs moved alike, by kind of pair."""
    return {kinds: _alike(own) for kinds, own in by_pair(records, "movement_alike").items()}


def _alike(found: list[Record]) -> Alike:
    names = list(map(str, found[0].results["modules"]))
    same = [r for r in found if list(map(str, r.results["modules"])) == names]
    return Alike(
        names,
        np.mean([_array(r, "cosine") for r in same], axis=0),
        np.mean([_optional(r, "chance") for r in same], axis=0),
        np.min([_array(r, "z") for r in same], axis=0),
        float(np.mean([number(r, "total_cosine") for r in same])),
        float(np.min([number(r, "total_z") for r in same])),
        len(same),
    )


def _array(record: Record, name: str) -> np.ndarray:
    return np.asarray(record.results[name], np.float64)


def _optional(record: Record, name: str) -> np.ndarray:
    missing = np.full(len(record.results["modules"]), np.nan)
    return np.asarray(record.results.get(name, missing), np.float64)


def _names(found: list[Record]) -> list[str]:
    return list(dict.fromkeys(str(n) for r in found for n in r.results["modules"]))


def _means(found: list[Record], values: Sequence[np.ndarray]) -> dict[str, float]:
    """The mean over the runs that have a module, by module, from [M] of each run."""
    each = [
        dict(zip(map(str, r.results["modules"]), own.tolist(), strict=True))
        for r, own in zip(found, values, strict=True)
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
    """A module's name for a sentence: `"block 1.2"`, `"head"`."""
    name = short(module)
    return name if name == module else f"block {name}"
