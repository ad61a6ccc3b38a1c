"""How far each module of a run went in training, and how straight."""

import dataclasses
from typing import ClassVar

from tlx import checkpoints
from tlx.analyses.parameters import movement
from tlx.core import partition
from tlx.records import results
from tlx.studies import keys, trained
from tlx.studies.question import Question, arrays
from tlx.studies.runs import Plan, Run

FIELDS = ("norm", "displacement", "path", "straightness", "to_end")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Movement(Question):
    """How far each module of a run was from its start by step, and how straight it went there."""

    version: ClassVar[int] = 1
    replicates: ClassVar[int] = 1
    weight: ClassVar[float] = 5.0

    def subjects(self, plan: Plan) -> list[Run]:
        """The compared runs of every kind."""
        return plan.each()

    def key(self, run: Run) -> keys.Key:
        """Of one run."""
        return keys.of_checkpoints(run)

    def answer(self, run: Run) -> results.Movement:
        """The movement."""
        steps = checkpoints.steps(run.workdir)
        end = trained.weights(run)
        moved = movement.trajectory(
            (trained.weights(run, step) for step in steps),
            partition.by_depth(end, 1),
            modules=trained.modules(run),
            end=end,
        )
        return arrays(
            results.Movement,
            modules=list(moved.modules),
            step=list(steps),
            **{name: getattr(moved.by_module, name) for name in FIELDS},
            **{f"total_{name}": getattr(moved.total, name) for name in FIELDS},
        )
