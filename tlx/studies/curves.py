"""The questions of a study about its learning curves, by run and by recipe."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tlx.analyses.function import inference, learning
from tlx.studies import asking
from tlx.studies.asking import CONFIDENCE, Question
from tlx.studies.plan import Run
from tlx.train import metrics_log

SPLITS = ("test", "valid", "train")


class Curve(NamedTuple):
    """The evaluations of a run: [T] each; NaN for images held out where there are none.

    `auc`, on the test images, is NaN where an image has one class.
    """

    step: np.ndarray
    accuracy: dict[str, np.ndarray]
    loss: dict[str, np.ndarray]
    num: dict[str, int]
    auc: np.ndarray


def read(run: Run) -> Curve:
    """The clean evaluations of a run, by split."""
    lines = metrics_log.read(run.workdir)
    by_split = {name: [x for x in lines if x["split"] == name] for name in SPLITS}
    step = np.array([x["step"] for x in by_split["test"]])

    def series(field: str) -> dict[str, np.ndarray]:
        nothing = np.full(len(step), np.nan)
        return {s: np.array([x[field] for x in own]) if own else nothing
                for s, own in by_split.items()}  # fmt: skip

    num = {name: own[-1]["count"] if own else 0 for name, own in by_split.items()}
    auc = np.array([x.get("auc") for x in by_split["test"]], np.float64)  # None becomes NaN
    return Curve(step, series("accuracy"), series("loss"), num, auc)


def summary(curve: Curve) -> dict[str, Any]:
    """How fast and how far a run learned, in numbers."""
    best = learning.best(curve.step, curve.accuracy["test"])
    selected = learning.select(curve.step, curve.accuracy["valid"], curve.accuracy["test"])
    return {
        "average_train_accuracy": learning.average(curve.step, curve.accuracy["train"]),
        "area_train_accuracy": learning.area_under(curve.step, curve.accuracy["train"]),
        "area_test_accuracy": learning.area_under(curve.step, curve.accuracy["test"]),
        "best_step": best.step,
        "best_accuracy": best.value,
        "selected_step": selected.step,
        "selected_accuracy": selected.value,
    }


def of_run(run: Run) -> Question:
    """Learning curves of a run: clean accuracy and loss by step, and what they come to."""

    def answer() -> dict[str, Any]:
        found = read(run)
        out: dict[str, Any] = {"step": found.step, **summary(found)}
        for split in SPLITS:
            out[f"{split}_accuracy"] = found.accuracy[split]
            out[f"{split}_loss"] = found.loss[split]
            out[f"num_{split}"] = found.num[split]
        if np.isfinite(found.auc).any():
            out["test_auc"] = found.auc
        return out

    inputs = {
        "run": run.name,
        "kind": run.kind,
        "shuffle": run.shuffle,
        "replicate": run.replicate,
        "target": run.spec.data.name,
        "rate": run.spec.optim.rate,
    }
    if run.is_further_rate:
        inputs["further_rate"] = True
    if run.axis == "part":
        inputs["part"] = run.value
    if run.cell:
        inputs["cell"] = run.cell
    return Question("curves", inputs, {}, asking.identities(run), answer)


def by_recipe(runs: Sequence[Run]) -> Question:
    """The learning curves of the plain P-T and RI-T at each rate, with bands over seeds."""
    recipes = groups(runs)

    def answer() -> dict[str, Any]:
        found = {key: [read(run) for run in own] for key, own in recipes.items()}
        steps = next(iter(found.values()))[0].step
        out: dict[str, list[Any]] = {}
        for own in found.values():
            for name, value in _of_group(own).items():
                out.setdefault(name, []).append(value)
        first = next(iter(found.values()))[0]
        return {
            "step": steps,
            "kinds": [kind for kind, _ in recipes],
            "rates": [rate for _, rate in recipes],
            **{name: np.array(values) for name, values in out.items()},
            "count": first.num["test"],
            "num_valid": first.num["valid"],
        }

    options = {"confidence": CONFIDENCE, "selected_on": selected_on(runs)}
    return Question("learning", inputs(runs), options, asking.data_of(runs), answer)


def _of_group(own: Sequence[Curve]) -> dict[str, Any]:
    """The bands of a group's curves, and where each is best."""
    rows = {
        "test": [c.accuracy["test"] for c in own],
        "train": [c.accuracy["train"] for c in own],
        "loss": [c.loss["test"] for c in own],
    }
    if all(np.isfinite(c.auc).any() for c in own):
        rows["auc"] = [c.auc for c in own]
    out: dict[str, Any] = {"seeds": len(own)}
    for name, values in rows.items():
        band = learning.band(np.stack(values), confidence=CONFIDENCE)
        out |= {f"{name}_mean": band.mean, f"{name}_low": band.low, f"{name}_high": band.high}
    end = inference.mean_over_seeds([v[-1] for v in rows["test"]], confidence=CONFIDENCE)
    out |= {"final_mean": end.value, "final_low": end.low, "final_high": end.high}
    each = [summary(c) for c in own]
    out |= {"best": [e["best_accuracy"] for e in each], "best_step": [e["best_step"] for e in each]}
    out |= {"selected": [e["selected_accuracy"] for e in each]}
    out |= {"selected_step": [e["selected_step"] for e in each]}
    out |= {"optimism": float(np.mean(np.subtract(out["best"], out["selected"])))}
    return out


def groups(runs: Sequence[Run]) -> dict[tuple[str, float], list[Run]]:
    """The runs by kind and rate, P-T first, each kind's own rate first."""
    found: dict[tuple[str, float], list[Run]] = {}
    for run in sorted(runs, key=lambda r: (r.kind, r.is_further_rate)):
        found.setdefault((run.kind, run.spec.optim.rate), []).append(run)
    return found


def selected_on(runs: Sequence[Run]) -> str:
    """The split by which a rate or a step is chosen."""
    return "valid" if all(run.spec.data.valid_size for run in runs) else "test"


def inputs(runs: Sequence[Run]) -> dict[str, Any]:
    """What is told of runs on one target."""
    return {"target": runs[0].spec.data.name, "split": "test"}
