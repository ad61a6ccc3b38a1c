"""The runs along an axis: how fast and how far they learn, and differences.

A record holds what each run gave, and the comparisons of P-T with RI-T (or of earlier starts with
the last) with their intervals, since only the analyses compute those.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from tlx.analyses.function import inference, learning, predictions
from tlx.records import results
from tlx.studies import curves, keys, trained
from tlx.studies.question import CONFIDENCE, Question, arrays
from tlx.studies.runs import Plan, Run, SweptRuns

PER_KIND = (
    "chosen",
    "num_seeds",
    "final_mean",
    "final_low",
    "final_high",
    "average_mean",
    "average_low",
    "average_high",
)
"""What is recorded of each kind at its chosen rate."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep(Question):
    """The runs along an axis: final accuracy, speed, and P-T against RI-T at each value.

    Along "init_step" the last checkpoint is compared with each earlier one instead. Where there is
    S-T, the difference P-T − RI-T is the sum of that of features, P-T − S-T, and that of
    low-level statistics, S-T − RI-T.
    """

    version: ClassVar[int] = 1
    replicates: ClassVar[int] = 1

    def subjects(self, plan: Plan) -> list[SweptRuns]:
        """Every axis that has values besides the plain one."""
        return list(plan.swept.values())

    def key(self, swept: SweptRuns) -> keys.Key:
        """Of the runs along one axis."""
        every = swept.runs
        inputs = {"axis": swept.axis, "target": every[0].spec.data.name, "split": "test"}
        data = {
            value: {
                str(i): keys.data_of(group) for i, group in enumerate(_on_the_same_images(runs))
            }
            for value, runs in swept.cells.items()
        }
        options = {"confidence": CONFIDENCE, "selected_on": curves.selected_on(every)}
        return keys.Key(inputs, data, options)

    def answer(self, swept: SweptRuns) -> results.Sweep:
        """The numbers along the axis."""
        tables = [_table(runs, swept.kinds) for runs in swept.cells.values()]
        cells = [_at_chosen(table) for table in tables]
        to_reach = cells[-1:] * len(cells) if swept.axis == "init_step" else cells
        reach = [cell["final_mean"][-1] for cell in to_reach]  # of RI-T, or of the last start
        steps_to = [table.steps_to(level) for table, level in zip(tables, reach, strict=True)]
        return arrays(
            results.Sweep,
            values=list(swept.cells),
            plain=swept.plain,
            kinds=list(swept.kinds),
            rates=tables[0].rates,
            **{name: _kind_first([t.values[name] for t in tables]) for name in tables[0].values},
            steps_to=_kind_first(steps_to),
            reach=reach,
            **{name: _kind_first([cell[name] for cell in cells]) for name in PER_KIND},
            **_differences(swept, cells),
            **_contrasts(swept.kinds, cells),
            **_from_plain(swept, cells),
            num_examples=[t.num_test for t in tables],
            train_size=[t.train_size for t in tables],
            num_classes=[trained.num_classes(runs[0]) for runs in swept.cells.values()],
            chosen_on=curves.selected_on(swept.runs) if tables[0].rates.shape[1] > 1 else "",
        )


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
                    [learning.steps_to(c.step, c.accuracy["test"], level) for c in recipe]
                    for recipe in rates
                ]
                for rates in self.runs
            ]
        )


def _table(runs: Sequence[Run], kinds: Sequence[str]) -> Table:
    recipes = curves.by_recipe(runs)
    by_kind = [[recipe for (k, _), recipe in recipes.items() if k == kind] for kind in kinds]
    read = [[[curves.read(run) for run in recipe] for recipe in rates] for rates in by_kind]
    every = [run for rates in by_kind for recipe in rates for run in recipe]
    of_run: dict[str, np.ndarray] = {}
    for group in _on_the_same_images(every):
        models = [(trained.apply_fn(run), trained.params(run)) for run in group]
        answers = predictions.collect(models, trained.stream(group[0]))
        of_run |= dict(zip([run.name for run in group], np.asarray(answers.right), strict=True))
    # with several labels an image, the share of them that is right
    right = [
        [np.stack([of_run[run.name].mean(-1) for run in recipe]) for recipe in rates]
        for rates in by_kind
    ]
    each = [[[_numbers(c) for c in recipe] for recipe in rates] for rates in read]
    values = {
        name: np.array([[[x[name] for x in recipe] for recipe in rates] for rates in each])
        for name in each[0][0][0]
    }
    first = read[0][0][0]
    rates = np.array([[recipe[0].spec.optim.rate for recipe in rates] for rates in by_kind])
    return Table(rates, values, read, right, first.num["test"], first.num["train"])


def _on_the_same_images(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs in groups of the same data, which differ where each replicate has its own shuffle."""
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.spec.data, []).append(run)
    return list(groups.values())


def _numbers(curve: curves.Curve) -> dict[str, float]:
    summary = curves.summary(curve)
    return {
        "final": float(curve.accuracy["test"][-1]),
        "valid": float(curve.accuracy["valid"][-1]),
        "average": summary["average_train_accuracy"],
        "area": summary["area_test_accuracy"],
        "best": summary["best_accuracy"],
        "selected": summary["selected_accuracy"],
    }


def _at_chosen(table: Table) -> dict[str, Any]:
    """The numbers of each kind at the rate with the best mean accuracy."""
    finals, valid = table.values["final"], table.values["valid"]
    chosen = [curves.chosen_rate(*of_kind) for of_kind in zip(finals, valid, strict=True)]
    average = table.values["average"]
    out: dict[str, Any] = {name: [] for name in PER_KIND} | {"chosen": chosen}
    out["right"] = [of_kind[r] for of_kind, r in zip(table.right, chosen, strict=True)]
    out["speeds"] = [of_kind[r] for of_kind, r in zip(average, chosen, strict=True)]
    for right, speeds in zip(out["right"], out["speeds"], strict=True):
        out["num_seeds"].append(len(speeds))
        for name, values in (("final", right.mean(-1)), ("average", speeds)):
            mean = inference.mean_over_seeds(values, confidence=CONFIDENCE)
            out[f"{name}_mean"].append(mean.value)
            out[f"{name}_low"].append(mean.low)
            out[f"{name}_high"].append(mean.high)
    return out


def _differences(swept: SweptRuns, cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of P-T and RI-T at each value; along "init_step" of the last and each earlier start."""
    if swept.axis == "init_step":
        compared = [_compare(cells[-1], cell, 0, 0) for cell in cells[:-1]]
        compared.append(dict.fromkeys(compared[0], np.nan) | {"chance": ""})
    else:
        compared = [_compare(cell, cell, 0, 1) for cell in cells]
    out: dict[str, Any] = {name: np.array([c[name] for c in compared]) for name in compared[0]}
    for name in ("difference", "speed"):
        out[f"{name}_p_holm"] = inference.holm(out[f"{name}_p"])
    if swept.axis == "init_step":
        out["earliest"] = _earliest(list(swept.cells), out["difference_low"])
    return out


def _compare(x: Mapping[str, Any], y: Mapping[str, Any], a: int, b: int) -> dict[str, Any]:
    """Kind `a` of a cell against kind `b` of another one, at their chosen rates."""
    right, speeds = (x["right"][a], y["right"][b]), (x["speeds"][a], y["speeds"][b])
    options: dict[str, Any] = {"paired": False, "confidence": CONFIDENCE}
    difference = inference.over_seeds_and_examples(*right, **options)
    out: dict[str, Any] = {"chance": " and ".join(difference.chance)}
    for name, estimate in (
        ("difference", difference),
        ("drop", inference.relative_drop(*right, **options)),
        ("speed", inference.difference(*speeds, **options)),
    ):
        ends = {"low": estimate.low, "high": estimate.high, "p": estimate.p_value}
        out |= {name: estimate.value} | {f"{name}_{end}": value for end, value in ends.items()}
    return out


def _contrasts(kinds: Sequence[str], cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """P-T less each further arm, and that less RI-T, at each value; nothing without such arms."""
    names = {"contrast": "difference", "contrast_drop": "drop", "contrast_speed": "speed"}
    pairs = [pair for arm in range(2, len(kinds)) for pair in ((0, arm), (arm, 1))]
    if not pairs:
        return {}
    found = [[_compare(cell, cell, *pair) for cell in cells] for pair in pairs]
    return {"contrasts": [f"{kinds[a]} − {kinds[b]}" for a, b in pairs]} | {
        f"{name}{end}": np.array([[one[f"{of}{end}"] for one in row] for row in found])
        for name, of in names.items()
        for end in ("", "_low", "_high", *(["_p"] if of != "drop" else []))
    }


def _from_plain(swept: SweptRuns, cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """By how much P-T − RI-T is larger at the plain value than at each other one.

    Replicates are paired: those of one number have the same seed at all values. NaN at the plain
    value, where test images are others, and where a kind has fewer runs at one of both values.
    """
    at = list(swept.cells).index(swept.plain)
    names = ("value", "low", "high", "p_value")
    found = np.full((len(names), len(cells)), np.nan)
    if swept.axis != "init_step":
        for i, cell in enumerate(cells):
            shapes = {right.shape for one in (cell, cells[at]) for right in one["right"][:2]}
            if i == at or len(shapes) > 1 or swept.axis == "target":
                continue
            here, plain = (one["right"][0] - 1.0 * one["right"][1] for one in (cell, cells[at]))
            more = inference.over_seeds_and_examples(
                plain, here, paired=True, confidence=CONFIDENCE
            )
            if "seeds" in more.chance:
                found[:, i] = [getattr(more, name) for name in names]
    ends = ("", "_low", "_high", "_p")
    return {f"from_plain{end}": row for end, row in zip(ends, found, strict=True)}


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
