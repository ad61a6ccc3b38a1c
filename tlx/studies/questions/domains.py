"""How far the targets are from P's source."""

import dataclasses
from typing import ClassVar

from tlx.analyses.features.transfer import domains
from tlx.records import results
from tlx.studies import keys, trained
from tlx.studies.question import Question, arrays
from tlx.studies.runs import Plan, Run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Domains(Question):
    """The Fréchet distance of each target to P's source, between features of P.

    The same distance between the source's training and test images is the floor, since small
    samples of one domain are not at 0.
    """

    version: ClassVar[int] = 1
    replicates: ClassVar[int] = 1

    def subjects(self, plan: Plan) -> list[Plan]:
        """P and the targets, if there are several."""
        return [plan] if "target" in plan.swept else []

    def key(self, plan: Plan) -> keys.Key:
        """Of all targets at once."""
        source, targets = plan.source, _targets(plan)
        data = keys.data_of([source, *targets.values()])
        data |= {name: keys.examples(run) for name, run in targets.items()}
        return keys.Key({"run": source.name}, data, {"layer": trained.penultimate_layer(source)})

    def answer(self, plan: Plan) -> results.Domains:
        """The distances."""
        source, targets = plan.source, _targets(plan)
        layer = trained.penultimate_layer(source)

        def to_source(run: Run, split: str = "test") -> domains.Distance:
            return domains.distance(
                trained.features(source),
                trained.params(source),
                trained.stream(source),
                trained.stream(run, split),
                layer=layer,
            )

        each = [to_source(run) for run in targets.values()]
        return arrays(
            results.Domains,
            targets=list(targets),
            distance=[one.distance for one in each],
            floor=to_source(source, "train").distance,
            num_examples=[trained.num_readable(run) for run in targets.values()],
            num_features=each[0].num_features,
            source=source.spec.data.name,
        )


def _targets(plan: Plan) -> dict[str, Run]:
    """A run on each target."""
    return {name: runs[0] for name, runs in plan.swept["target"].cells.items()}
