"""What the page says, as numbers: records in, small tuples out; numpy only.

Means over runs and pairs, and standard errors. The quantities themselves are computed by the
analyses and stand in the records.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from tlx.records import Record, canonical_json, fields, scan
from tlx.report.kinds import Pair, pair, pair_rank
from tlx.report.numbers import UNKNOWN, Estimate, mean, proportion

Records = Iterable[Record] | str | os.PathLike[str]


class Curve(NamedTuple):
    """One run on the target: [S] arrays over its evaluations, NaN where not measured."""

    run: str
    kind: str
    shuffle: str
    target: str
    step: np.ndarray
    test_accuracy: np.ndarray
    test_loss: np.ndarray
    train_accuracy: np.ndarray
    test_auc: np.ndarray
    num_test: int
    train_size: int
    average: float
    rate: float

    @property
    def final(self) -> Estimate:
        """Test accuracy after the last step."""
        defined = self.test_accuracy[np.isfinite(self.test_accuracy)]
        return proportion(float(defined[-1]), self.num_test) if defined.size else UNKNOWN

    @property
    def speed(self) -> Estimate:
        """Mean training accuracy of the evaluations after step 0."""
        # How well a point is known from the training images, as if all were at the mean.
        return proportion(self.average, self.train_size)


def listed(records: Records) -> list[Record]:
    """Returns records as a list; a path is scanned, and damaged records are left out."""
    if isinstance(records, str | os.PathLike):
        return scan(records)[0]
    return list(records)


def usable(records: Records, question: str) -> list[Record]:
    """Returns the records of a question that hold the results it needs."""
    return [r for r in listed(records) if r.question == question and not fields.lacking(r)]


def problems(records: Records) -> list[str]:
    """Returns a line for each record with a problem: damaged, or with wrong names in it.

    A record that lacks what the page needs is left out of it. Damaged ones are those of a path.
    """
    found, lines = (
        scan(records) if isinstance(records, str | os.PathLike) else (listed(records), [])
    )
    for record in sorted(found, key=lambda r: (r.question, canonical_json(r.key))):
        if wrong := fields.problems(record):
            lines.append(f"{record.question} {dict(record.inputs)}: {'; '.join(wrong)}")
    return lines


def number(record: Record, name: str) -> float:
    """Returns a scalar result as float; NaN where the record has none of the name."""
    return float(np.asarray(record.results.get(name, np.nan)))


def whole(record: Record, name: str) -> int:
    """Returns a scalar result as int; 0 where there is none."""
    value = number(record, name)
    return int(value) if np.isfinite(value) else 0


def interval(record: Record, name: str) -> tuple[float, float] | None:
    """Returns the results ``<name>_low`` and ``<name>_high``; None without both."""
    low, high = number(record, f"{name}_low"), number(record, f"{name}_high")
    return (low, high) if np.isfinite([low, high]).all() else None


def estimate(record: Record, name: str, *, ends: str | None = None) -> Estimate:
    """Returns a scalar result with its interval, which is named by ``ends`` if not by ``name``."""
    n = whole(record, "count")
    return Estimate(number(record, name), n=n, interval=interval(record, ends or name))


def option(record: Record, name: str) -> object:
    """Returns an option of the analysis; None where the record has none of the name."""
    return (record.key.get("options") or {}).get(name)


def confidence(records: Records, question: str) -> str:
    """Returns the level of a question's intervals, e.g. ``"95%"``; "" where it has none."""
    found = [
        option(r, "confidence")
        for r in usable(records, question)
        if any(
            ("_" + name).endswith("_low") and np.isfinite(np.asarray(value, np.float64)).any()
            for name, value in r.results.items()
        )
    ]
    levels = sorted({level for level in found if isinstance(level, float)})
    return " or ".join(f"{100 * level:g}%" for level in levels)


def statistics(records: Records, question: str) -> list[str]:
    """Returns the rules by which models off the trained ones got their batch statistics.

    Empty where the models have none.
    """
    found = {str(r.results.get("statistics", "none")) for r in usable(records, question)}
    return sorted(found - {"none"})


def curves(records: Records, shuffle: str | None = "none") -> list[Curve]:
    """Returns the runs on the target, P-T first; ``shuffle=None`` returns all of them.

    Runs of kind P are left out, which are trained on the source, and those that start from
    only a part of P, are at another learning rate than the study's, or belong to a cell of
    another axis than the shuffles.
    """
    apart = ("part", "cell", "further_rate")
    found = [
        curve(r) for r in usable(records, "curves") if not any(r.inputs.get(name) for name in apart)
    ]
    found = [c for c in found if c.kind != "P" and shuffle in (None, c.shuffle)]
    return sorted(found, key=lambda c: (pair_rank((c.kind, c.kind)), c.shuffle, c.run))


def curve(record: Record) -> Curve:
    """Returns a record of learning curves as a run."""
    step = np.atleast_1d(record.results["step"])

    def series(name: str) -> np.ndarray:
        values = np.atleast_1d(np.asarray(record.results.get(name, np.nan), np.float64))
        return values if values.shape == step.shape else np.full(step.shape, np.nan)

    given = {k: str(record.inputs.get(k, "")) for k in ("run", "kind", "shuffle", "target")}
    return Curve(
        given["run"],
        given["kind"],
        given["shuffle"] or "none",
        given["target"],
        step,
        series("test_accuracy"),
        series("test_loss"),
        series("train_accuracy"),
        series("test_auc"),
        whole(record, "num_test"),
        whole(record, "train_size") or whole(record, "num_train"),
        number(record, "average_train_accuracy"),
        float(record.inputs.get("rate", np.nan)),
    )


def final(found: Sequence[Curve], kind: str) -> Estimate:
    """Returns the mean final test accuracy of the runs of a kind."""
    return mean([c.final for c in found if c.kind == kind])


def speed(found: Sequence[Curve], kind: str) -> Estimate:
    """Returns the mean average training accuracy of the runs of a kind."""
    return mean([c.speed for c in found if c.kind == kind])


def steps_to(found: Sequence[Curve], kind: str, accuracy: float) -> tuple[int, int] | None:
    """Returns the first evaluated step at which the kind's mean reaches an accuracy, and the last.

    None where it never does, or where its runs were evaluated at different steps.
    """
    own = [c for c in found if c.kind == kind]
    if not own or any(not np.array_equal(c.step, own[0].step) for c in own):
        return None
    reached = np.mean([c.test_accuracy for c in own], axis=0) >= accuracy
    if not reached.any():
        return None
    return int(own[0].step[np.argmax(reached)]), int(own[0].step[-1])


def shuffle_rank(name: str) -> tuple[int, int, str]:
    """Returns a sort key for ways of shuffling: pixels first, then by block size, whole last."""
    size = re.search(r":(\d+)$", name)
    order = {"pixel": 0, "channel_block": 1, "block": 2, "none": 3}
    return order.get(name.split(":")[0], 2), int(size.group(1)) if size else 0, name


def shuffle_label(name: str) -> str:
    """Returns a short name for a way of shuffling: ``"8"`` for blocks of 8, ``"whole"``."""
    kind, _, size = name.partition(":")
    known = {"none": "whole", "pixel": "pixels", "channel_block": f"{size} ch.", "block": size}
    return known.get(kind, name) or name


def shuffle_words(name: str) -> str:
    """Returns what a way of shuffling does, for a sentence: ``"8×8 blocks shuffled"``."""
    kind, _, size = name.partition(":")
    blocks = f"{size}×{size} blocks shuffled"
    known = {"pixel": "all pixels permuted", "channel_block": f"{blocks} in each channel"}
    return known.get(kind, blocks if size else name)


def by_pair(records: Records, question: str, shuffle: str = "none") -> dict[Pair, list[Record]]:
    """Returns the records between two models, by kind of pair; test images, of one shuffle.

    Where some records of the question are of the test split, those of others are left out.
    """
    found = [
        r for r in usable(records, question) if str(r.inputs.get("shuffle") or "none") == shuffle
    ]
    test = [r for r in found if str(r.inputs.get("split", "test")) == "test"]
    groups: dict[Pair, list[Record]] = {}
    for record in test or found:
        kinds = pair(str(record.inputs.get("kind_a", "?")), str(record.inputs.get("kind_b", "?")))
        groups.setdefault(kinds, []).append(record)
    return {kinds: groups[kinds] for kinds in sorted(groups, key=pair_rank)}
