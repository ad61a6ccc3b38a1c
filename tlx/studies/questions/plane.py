"""Loss and accuracy on the plane through three runs."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from tlx.analyses.landscape import planes
from tlx.config import problems as check
from tlx.records import results
from tlx.studies import keys, trained
from tlx.studies.question import Question, arrays
from tlx.studies.runs import Plan, Run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plane(Question):
    """Loss and accuracy on a grid of the plane through two P-T and one RI-T.

    Attributes:
      num_points: points along each side, at least 2.
    """

    version: ClassVar[int] = 1
    weight: ClassVar[float] = 480.0

    num_points: int = 21

    def problems(self) -> list[str]:
        """Everything that is wrong with its options."""
        return check.integer("num_points", self.num_points, low=2)

    def subjects(self, plan: Plan) -> list[tuple[Run, Run, Run]]:
        """The first two P-T and the first RI-T."""
        return [plan.plane_corners()]

    def key(self, runs: Sequence[Run]) -> keys.Key:
        """Of three runs."""
        inputs = {
            "models": [run.name for run in runs],
            "kinds": [run.kind for run in runs],
            "split": "test",
        }
        return keys.Key(inputs, keys.data_of(runs))

    def answer(self, runs: Sequence[Run]) -> results.Plane:
        """The grid."""
        plane = planes.through(*(trained.params(run) for run in runs))
        xs, ys = planes.cover(plane.coordinates, num=self.num_points)
        grid = planes.grid(
            trained.apply_fn(runs[0]),
            trained.metric(runs[0]),
            plane.path_fn,
            trained.stream(runs[0]),
            xs=xs,
            ys=ys,
            marks=plane.coordinates,
            chunk=trained.chunk(),
            statistics=trained.stream(runs[0], "train"),
        )
        return arrays(
            results.Plane,
            x=grid.xs,
            y=grid.ys,
            loss=grid.results["loss"],
            accuracy=grid.results["accuracy"],
            models_xy=plane.coordinates,
            model_loss=grid.at_marks["loss"],
            model_accuracy=grid.at_marks["accuracy"],
            num_examples=grid.at_marks["count"][0],
            statistics=grid.statistics,
        )
