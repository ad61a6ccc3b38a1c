"""The representation similarity of the layers of a run with those of P, by step."""

import dataclasses
from typing import ClassVar

import numpy as np

from tlx import checkpoints
from tlx.records import results
from tlx.studies import keys, trained
from tlx.studies.cka import EVIDENCE, CkaQuestion
from tlx.studies.question import CONFIDENCE, arrays
from tlx.studies.runs import Pair, Plan


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimilarityByStep(CkaQuestion):
    """Kernel alignment of each layer of a run with the same layer of P, by step.

    The run is taken at all its checkpoints, P after its last step.
    """

    weight: ClassVar[float] = 120.0
    replicates: ClassVar[int] = 1

    def subjects(self, plan: Plan) -> list[Pair]:
        """The first run of each kind with P."""
        return [Pair(run, plan.source) for run in plan.firsts()]

    def key(self, pair: Pair) -> keys.Key:
        """Of one pair."""
        key = keys.of_pair(pair, confidence=CONFIDENCE)
        return key._replace(data={**key.data, "checkpoints": keys.weights_by_step(pair.a)})

    def answer(self, pair: Pair) -> results.SimilarityByStep:
        """The alignment, with the evidence for it."""
        steps = checkpoints.steps(pair.a.workdir)
        by_step = [self.aligned(pair, trained.params(pair.a, step)) for step in steps]
        first = by_step[0]
        layers = [name for name in first.layers_x if name in first.layers_y]
        rows, columns = (
            [names.index(name) for name in layers] for names in (first.layers_x, first.layers_y)
        )
        evidence = {
            name: np.stack([np.asarray(getattr(one, name))[rows, columns] for one in by_step])
            for name in EVIDENCE
        }
        return arrays(
            results.SimilarityByStep,
            step=list(steps),
            layers=layers,
            **evidence,
            num_examples=first.num_examples,
            num_left_out=first.num_left_out,
        )
