"""Whether two runs moved in the same directions."""

import dataclasses
from typing import ClassVar

from tlx.analyses.parameters import movement
from tlx.config import problems as check
from tlx.core import partition, tree
from tlx.records import results
from tlx.studies import keys, trained
from tlx.studies.question import Question, arrays
from tlx.studies.runs import Pair, Plan


@dataclasses.dataclass(frozen=True, kw_only=True)
class MovementAlignment(Question):
    """Whether two runs moved in the same directions, module by module and weight by weight.

    Attributes:
      rank: the leading directions of each movement that are compared, at least 1.
    """

    version: ClassVar[int] = 1
    weight: ClassVar[float] = 5.0

    rank: int = 1

    def problems(self) -> list[str]:
        """Everything that is wrong with its options."""
        return check.integer("rank", self.rank, low=1)

    def subjects(self, plan: Plan) -> list[Pair]:
        """All pairs of two runs of a kind."""
        return plan.recipe_pairs()

    def key(self, pair: Pair) -> keys.Key:
        """Of one pair."""
        return keys.of_pair(pair, on_images=False)

    def answer(self, pair: Pair) -> results.MovementAlignment:
        """The cosines, and the overlap of the leading directions."""
        a, b = (trained.weights(run) for run in pair)
        start_a, start_b = (trained.weights(run, 0) for run in pair)
        labels, modules = partition.by_depth(a, 1), trained.modules(pair.a)
        aligned = movement.alignment_of_movement(
            a, b, labels, start=start_a, start_b=start_b, modules=modules
        )
        overlap = movement.subspace_overlap(
            tree.sub(a, start_a), tree.sub(b, start_b), rank=self.rank
        )
        return arrays(
            results.MovementAlignment,
            modules=list(aligned.modules),
            cosine=aligned.by_module.cosine,
            chance=aligned.by_module.chance,
            z=aligned.by_module.z,
            total_cosine=aligned.total.cosine,
            total_z=aligned.total.z,
            layers=[trained.layer_name(leaf) for leaf in overlap.leaves],
            overlap_inputs=overlap.inputs,
            overlap_inputs_chance=overlap.inputs_chance,
            overlap_outputs=overlap.outputs,
            overlap_outputs_chance=overlap.outputs_chance,
        )
