"""How the recipes learned: the plain P-T and RI-T at each rate, with bands over seeds."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from tlx.analyses.function import inference, learning
from tlx.records import results
from tlx.studies import curves, keys
from tlx.studies.curves import Curve
from tlx.studies.question import CONFIDENCE, Question, arrays
from tlx.studies.runs import Plan, Run


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanLearningCurves(Question):
    """How P-T and RI-T learned at each rate, over their seeds."""

    version: ClassVar[int] = 1
    weight: ClassVar[float] = 0.1
    replicates: ClassVar[int] = 1
    is_always_asked: ClassVar[bool] = True

    def subjects(self, plan: Plan) -> list[list[Run]]:
        """All plain runs at once."""
        return [plan.plain()]

    def key(self, runs: Sequence[Run]) -> keys.Key:
        """Of runs on one target."""
        options = {"confidence": CONFIDENCE, "selected_on": curves.selected_on(runs)}
        inputs = {"target": runs[0].spec.data.name, "split": "test"}
        return keys.Key(inputs, keys.data_of(runs), options)

    def answer(self, runs: Sequence[Run]) -> results.MeanLearningCurves:
        """The bands of each recipe."""
        recipes = curves.by_recipe(runs)
        read = [[curves.read(run) for run in of_recipe] for of_recipe in recipes.values()]
        first = read[0][0]
        bands = [_bands(of_recipe) for of_recipe in read]
        return arrays(
            results.MeanLearningCurves,
            step=first.step,
            kinds=[kind for kind, _ in recipes],
            rates=[rate for _, rate in recipes],
            **{name: np.array([of_recipe[name] for of_recipe in bands]) for name in bands[0]},
            num_examples=first.num["test"],
            num_valid=first.num["valid"],
        )


def _bands(recipe: Sequence[Curve]) -> dict[str, Any]:
    """The bands of a recipe's curves, and where each of them is best."""
    rows = {
        "test": [c.accuracy["test"] for c in recipe],
        "train": [c.accuracy["train"] for c in recipe],
        "loss": [c.loss["test"] for c in recipe],
    }
    if all(np.isfinite(c.auc).any() for c in recipe):
        rows["auc"] = [c.auc for c in recipe]
    out: dict[str, Any] = {"seeds": len(recipe)}
    for name, values in rows.items():
        band = learning.band(np.stack(values), confidence=CONFIDENCE)
        out |= {f"{name}_mean": band.mean, f"{name}_low": band.low, f"{name}_high": band.high}
    end = inference.mean_over_seeds([v[-1] for v in rows["test"]], confidence=CONFIDENCE)
    out |= {"final_mean": end.value, "final_low": end.low, "final_high": end.high}
    each = [curves.summary(c) for c in recipe]
    for name in ("best", "selected"):
        out[name] = [summary[f"{name}_accuracy"] for summary in each]
        out[f"{name}_step"] = [summary[f"{name}_step"] for summary in each]
    out["optimism"] = float(np.mean(np.subtract(out["best"], out["selected"])))
    return out
