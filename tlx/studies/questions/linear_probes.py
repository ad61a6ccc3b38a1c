"""What a linear map reads of the target's classes from each layer of a run."""

import dataclasses
from typing import ClassVar, NamedTuple

from tlx.analyses.features.transfer import probes
from tlx.records import results
from tlx.studies import keys, trained
from tlx.studies.question import Question, arrays
from tlx.studies.runs import Plan, Run


class Probed(NamedTuple):
    """What a linear probe reads: a run's layers after a step, and the target of another run."""

    run: Run
    target: Run
    step: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearProbes(Question):
    """How well the target's classes can be read from each layer of a run by a linear map."""

    version: ClassVar[int] = 1
    replicates: ClassVar[int] = 1

    def subjects(self, plan: Plan) -> list[Probed]:
        """P, the first run of every kind, RI-T's random start; of targets of one class an image."""
        if plan.is_multilabel:
            return []
        firsts = plan.firsts()
        ri_t = next(run for run in firsts if run.kind == "RI-T")
        ends = [(plan.source, firsts[0]), *((run, run) for run in firsts)]
        probed = [Probed(run, target, run.spec.num_steps) for run, target in ends]
        return [*probed, Probed(ri_t, ri_t, 0)]

    def key(self, probed: Probed) -> keys.Key:
        """Of one run after one step; of step 0 of a run from random weights the kind is "RI"."""
        run, target, step = probed
        inputs = {
            "run": run.name,
            "kind": "RI" if step == 0 and run.spec.init_from is None else run.kind,
            "shuffle": target.shuffle,
            "step": step,
            "split": "test",
        }
        data = {"weights": keys.weights_at(run, step), "examples": keys.examples(target)}
        return keys.Key(inputs, data)

    def answer(self, probed: Probed) -> results.LinearProbes:
        """The accuracy at each layer."""
        run, target, step = probed
        probe = probes.linear_probes(
            trained.features(run),
            trained.params(run, step),
            trained.stream(target, "train"),
            trained.stream(target, "test"),
            num_classes=trained.num_classes(target),
        )
        return arrays(
            results.LinearProbes,
            layers=list(probe.layers),
            accuracy=probe.accuracy,
            low=probe.low,
            high=probe.high,
            ridge=probe.ridge,
            num_features=probe.num_features,
            num_train=probe.num_train,
            num_examples=probe.num_test,
            num_classes=probe.num_classes,
            spatial=probe.spatial,
        )
