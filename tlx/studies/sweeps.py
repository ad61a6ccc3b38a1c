"""The questions of a study about its axes: how fast and how far its runs learn, and differences.

A record holds what each run gave, and the comparisons of P-T with RI-T (or of earlier starts with
the last) with their intervals, since only the analyses compute those.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tlx.analyses.function import inference, learning, predictions
from tlx.studies import asking, axes, curves
from tlx.studies.asking import CONFIDENCE, Question
from tlx.studies.plan import Run
from tlx.train.job import make_module

Cells = Mapping[str, Sequence[Run]]
"""The runs at each value of an axis."""


def sweep(axis: str, cells: Cells, plain: str) -> Question:
    """The runs along an axis: final accuracy, speed, and P-T against RI-T at each value.

    `plain` is the value of the plain P-T and RI-T. Along "init_step" the last checkpoint is
    compared with each earlier one instead.
    """
    every = [run for own in cells.values() for run in own]
    kinds, selected_on = axes.KINDS[axis], curves.selected_on(every)

    def answer() -> dict[str, Any]:
        tables = [_table(own, kinds) for own in cells.values()]
        found = [_at_chosen(table) for table in tables]
        if axis == "init_step":
            compared = [_compare(found[-1], cell, 0, 0) for cell in found[:-1]]
            compared.append(dict.fromkeys(compared[0], np.nan) | {"chance": ""})
            reach = [found[-1]["final_mean"][0]] * len(tables)
        else:
            compared = [_compare(cell, cell, 0, 1) for cell in found]
            reach = [cell["final_mean"][1] for cell in found]
        steps_to = [table.steps_to(level) for table, level in zip(tables, reach, strict=True)]
        out: dict[str, Any] = {
            "values": list(cells),
            "plain": plain,
            "kinds": list(kinds),
            "rates": tables[0].rates,
            **{name: _kind_first([t.values[name] for t in tables]) for name in tables[0].values},
            "steps_to": _kind_first(steps_to),
            "reach": reach,
            **{name: _kind_first([c[name] for c in found]) for name in PER_KIND},
            **{name: np.array([c[name] for c in compared]) for name in compared[0]},
            "count": [t.num_test for t in tables],
            "train_size": [t.train_size for t in tables],
            "num_classes": [make_module(own[0].spec).num_classes for own in cells.values()],
        }
        for name in ("difference", "speed"):
            out[f"{name}_p_holm"] = inference.holm(out[f"{name}_p"])
        out["chosen_on"] = selected_on if tables[0].rates.shape[1] > 1 else ""
        if axis == "init_step":
            out["earliest"] = _earliest(list(cells), out["difference_low"])
        return out

    options = {"confidence": CONFIDENCE, "selected_on": selected_on}
    inputs = {"axis": axis, **curves.inputs(every)}
    data = {name: asking.data_of(own) for name, own in cells.items()}
    return Question("sweep", inputs, options, data, answer)


PER_KIND = ("chosen", "num_seeds", "final_mean", "final_low", "final_high",
            "average_mean", "average_low", "average_high")  # fmt: skip
"""What is recorded of each kind at its chosen rate."""


class Table(NamedTuple):
    """What the runs of a cell gave: for each kind, rate and seed.

    Attributes:
      rates: [K, R].
      values: by name [K, R, S]; NaN for what was not measured.
      runs: of each kind, rate and seed.
      right: [K][R] of bool [S, N], whether each test image is classified right.
      num_test: N.
      train_size: the training images.
    """

    rates: np.ndarray
    values: dict[str, np.ndarray]
    runs: list[list[list[curves.Curve]]]
    right: list[list[np.ndarray]]
    num_test: int
    train_size: int

    def steps_to(self, level: float) -> np.ndarray:
        """[K, R, S], the step at which the test accuracy reaches a level."""
        return np.array(
            [
                [
                    [learning.steps_to(c.step, c.accuracy["test"], level) for c in own]
                    for own in rates
                ]
                for rates in self.runs
            ]
        )


def _table(runs: Sequence[Run], kinds: Sequence[str]) -> Table:
    groups = curves.groups(runs)
    by_kind = [[own for (k, _), own in groups.items() if k == kind] for kind in kinds]
    found = [[[curves.read(run) for run in own] for own in rates] for rates in by_kind]
    every = [run for rates in by_kind for own in rates for run in own]
    models = [(asking.apply_fn(run), asking.params(run)) for run in every]
    answers = predictions.collect(models, asking.stream(runs[0]))
    of_run = dict(zip([run.name for run in every], np.asarray(answers.right), strict=True))
    # with several labels an image, the share of them that is right
    right = [
        [np.stack([of_run[run.name].mean(-1) for run in own]) for own in rates] for rates in by_kind
    ]
    each = [[[_numbers(c) for c in own] for own in rates] for rates in found]
    values = {
        name: np.array([[[x[name] for x in own] for own in rates] for rates in each])
        for name in each[0][0][0]
    }
    first = found[0][0][0]
    rates = np.array([[own[0].spec.optim.rate for own in rates] for rates in by_kind])
    return Table(rates, values, found, right, first.num["test"], first.num["train"])


def _numbers(curve: curves.Curve) -> dict[str, float]:
    found = curves.summary(curve)
    return {
        "final": float(curve.accuracy["test"][-1]),
        "valid": float(curve.accuracy["valid"][-1]),
        "average": found["average_train_accuracy"],
        "area": found["area_test_accuracy"],
        "best": found["best_accuracy"],
        "selected": found["selected_accuracy"],
    }


def _at_chosen(table: Table) -> dict[str, Any]:
    """The numbers of each kind at the rate with the best mean accuracy."""
    finals, valid = table.values["final"], table.values["valid"]
    chosen = [chosen_rate(*of_kind) for of_kind in zip(finals, valid, strict=True)]
    out: dict[str, Any] = {name: [] for name in PER_KIND}
    out |= {"chosen": chosen, "right": [own[r] for own, r in zip(table.right, chosen, strict=True)]}
    out["speeds"] = [own[r] for own, r in zip(table.values["average"], chosen, strict=True)]
    for right, speeds in zip(out["right"], out["speeds"], strict=True):
        out["num_seeds"].append(len(speeds))
        for name, values in (("final", right.mean(-1)), ("average", speeds)):
            found = inference.mean_over_seeds(values, confidence=CONFIDENCE)
            out[f"{name}_mean"].append(found.value)
            out[f"{name}_low"].append(found.low)
            out[f"{name}_high"].append(found.high)
    return out


def chosen_rate(final: np.ndarray, valid: np.ndarray) -> int:
    """The rate with the best mean accuracy, of [R, S]: on images held out where there are any."""
    accuracy = final if np.isnan(valid).all() else valid
    return int(np.argmax(accuracy.mean(-1)))


def _compare(x: Mapping[str, Any], y: Mapping[str, Any], a: int, b: int) -> dict[str, Any]:
    """Kind `a` of a cell against kind `b` of another one, at their chosen rates."""
    right, speeds = (x["right"][a], y["right"][b]), (x["speeds"][a], y["speeds"][b])
    options: dict[str, Any] = {"paired": False, "confidence": CONFIDENCE}
    difference = inference.over_seeds_and_examples(*right, **options)
    out: dict[str, Any] = {"chance": " and ".join(difference.chance)}
    for name, found in (
        ("difference", difference),
        ("drop", inference.relative_drop(*right, **options)),
        ("speed", inference.difference(*speeds, **options)),
    ):
        ends = {"low": found.low, "high": found.high, "p": found.p_value}
        out |= {name: found.value} | {f"{name}_{end}": value for end, value in ends.items()}
    return out


def _earliest(values: Sequence[str], low: np.ndarray) -> int:
    """The earliest step from which on no start is worse than the last by its interval.

    −1 where an interval is missing or all of them are worse.
    """
    as_good = [bool(value <= 0) for value in low[:-1]]
    for i, step in enumerate(values[:-1]):
        if all(as_good[i:]):
            return int(step)
    return -1


def _kind_first(by_cell: Sequence[Any]) -> np.ndarray:
    """[K, C, ...] of C arrays [K, ...]."""
    return np.moveaxis(np.array(by_cell), 0, 1)
