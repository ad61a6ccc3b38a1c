"""How a run learned: clean accuracy and loss by step."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from tlx.records import results
from tlx.studies import curves, keys
from tlx.studies.question import Question, arrays
from tlx.studies.runs import Plan, Run


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearningCurve(Question):
    """How each run learned, and what its curve comes to."""

    version: ClassVar[int] = 1
    weight: ClassVar[float] = 0.1
    replicates: ClassVar[int] = 1
    is_always_asked: ClassVar[bool] = True

    def subjects(self, plan: Plan) -> tuple[Run, ...]:
        """Every run."""
        return plan.runs

    def key(self, run: Run) -> keys.Key:
        """Of one run."""
        inputs: dict[str, Any] = {
            **keys.name_of(run),
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
        return keys.Key(inputs, keys.weights(run))

    def answer(self, run: Run) -> results.LearningCurve:
        """Its curve, and what it comes to."""
        curve = curves.read(run)
        by_split: dict[str, Any] = {}
        for split in curves.SPLITS:
            by_split[f"{split}_accuracy"] = curve.accuracy[split]
            by_split[f"{split}_loss"] = curve.loss[split]
            by_split[f"num_{split}"] = curve.num[split]
        if np.isfinite(curve.auc).any():
            by_split["test_auc"] = curve.auc
        return arrays(results.LearningCurve, step=curve.step, **curves.summary(curve), **by_split)
