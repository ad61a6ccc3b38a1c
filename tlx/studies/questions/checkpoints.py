"""How good P was at its checkpoints, and whether they lie in the basin of its last one."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from tlx.config import problems as check
from tlx.core import evaluate, intervals
from tlx.records import results
from tlx.studies import keys, lines, trained
from tlx.studies.question import CONFIDENCE, Question, arrays
from tlx.studies.runs import Plan, Run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoints(Question):
    """How good P was at the steps of the axis `init_step`, and whether they share a basin.

    They lie in the basin of the last one if the 0-1 error on the source's test images rises by no
    more than the tolerance above the chord, on the line to it.

    Attributes:
      num_alphas: points on each line, ends included, at least 3.
      tolerance: that barrier, at least 0.
    """

    version: ClassVar[int] = 1
    weight: ClassVar[float] = 480.0
    replicates: ClassVar[int] = 1

    num_alphas: int = 21
    tolerance: float = 0.02

    def problems(self) -> list[str]:
        """Everything that is wrong with its options."""
        problems = check.integer("num_alphas", self.num_alphas, low=3)
        return problems + check.number("tolerance", self.tolerance, low=0)

    def subjects(self, plan: Plan) -> list[Plan]:
        """P, if runs start from several of its steps."""
        return [plan] if "init_step" in plan.swept else []

    def key(self, plan: Plan) -> keys.Key:
        """Of P at all those steps."""
        run = plan.source
        data = {
            "examples": keys.examples(run),
            "weights": [keys.weights_at(run, step) for step in _steps(plan)],
        }
        inputs = {"run": run.name, "split": "test"}
        return keys.Key(inputs, data, {"confidence": CONFIDENCE})

    def answer(self, plan: Plan) -> results.Checkpoints:
        """How good P was there."""
        run, steps = plan.source, _steps(plan)
        table = [_evaluated(run, step) | _to_the_last(run, step, self.num_alphas) for step in steps]
        columns = {name: np.array([row[name] for row in table]) for name in table[0]}
        ends = zip(columns["barrier_low"], columns["barrier_high"], strict=True)
        return arrays(
            results.Checkpoints,
            step=steps,
            **columns,
            verdict=[intervals.verdict(low, high, self.tolerance) for low, high in ends],
            tolerance=self.tolerance,
            num_examples=trained.num_readable(run),
        )


def _steps(plan: Plan) -> list[int]:
    """Those from which runs start."""
    return [int(step) for step in plan.swept["init_step"].cells]


def _evaluated(run: Run, step: int) -> dict[str, Any]:
    """With the statistics of the checkpoint itself."""
    params, stream = trained.params(run, step), trained.stream(run)
    means = evaluate(trained.apply_fn(run), trained.metric(run), params, stream)
    return {name: means[name] for name in ("accuracy", "loss")}


def _to_the_last(run: Run, step: int, num_alphas: int) -> dict[str, Any]:
    line = lines.line(run, trained.params(run, step), trained.params(run), num_alphas)
    rise = lines.barrier(line, "error")
    return {"barrier": rise.height, "barrier_low": rise.low, "barrier_high": rise.high}
