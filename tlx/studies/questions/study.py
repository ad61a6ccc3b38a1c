"""The study itself: its config, and how long each run took."""

import dataclasses
from typing import ClassVar

import numpy as np

from tlx.records import results
from tlx.studies import keys
from tlx.studies.question import Question, arrays
from tlx.studies.runs import Plan
from tlx.train.workdir import read_result


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study(Question):
    """The study itself: its config, and how long each run took."""

    version: ClassVar[int] = 1
    weight: ClassVar[float] = 0.1
    replicates: ClassVar[int] = 1
    is_always_asked: ClassVar[bool] = True

    def subjects(self, plan: Plan) -> list[Plan]:
        """The study."""
        return [plan]

    def key(self, plan: Plan) -> keys.Key:
        """Of all its runs."""
        data = {run.name: keys.weights(run) for run in plan.runs}
        return keys.Key({"name": plan.name}, data, {"config": plan.config})

    def answer(self, plan: Plan) -> results.Study:
        """The times."""
        runs = plan.runs
        ends = [read_result(run.workdir) for run in runs]
        return arrays(
            results.Study,
            run=[run.name for run in runs],
            seconds=[np.nan if end is None else end.seconds for end in ends],
        )
