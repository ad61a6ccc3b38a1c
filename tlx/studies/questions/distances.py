"""How far the weights of two runs are apart."""

import dataclasses
from typing import ClassVar

import numpy as np

from tlx.analyses.parameters import distances, movement
from tlx.core import partition
from tlx.records import results
from tlx.studies import keys, trained
from tlx.studies.question import Question, arrays
from tlx.studies.runs import Pair, Plan
from tlx.train.spec import HEAD


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distances(Question):
    """Distances in parameter space by module and in total.

    They are of weights, not of batch statistics. The totals leave the head out: that of P is for
    another task than that of its partner. Where batch normalisation takes the scale of weights
    away, they are also given with those at length 1.
    """

    version: ClassVar[int] = 1
    weight: ClassVar[float] = 5.0

    def subjects(self, plan: Plan) -> list[Pair]:
        """All pairs of two runs of a kind, P-T with RI-T, and each run with P."""
        return plan.target_pairs() + plan.source_pairs()

    def key(self, pair: Pair) -> keys.Key:
        """Of one pair."""
        return keys.of_pair(pair, on_images=False, totals_without=[HEAD])

    def answer(self, pair: Pair) -> results.Distances:
        """The distances."""
        a, b = (trained.weights(run) for run in pair)
        labels = partition.by_depth(a, 1)
        every = trained.modules(pair.a)
        body = [name for name in every if name != HEAD]
        shared = body if "P" in (pair.a.kind, pair.b.kind) else every
        by_module = distances.by_module(a, b, labels, modules=shared)
        total = distances.by_module(a, b, labels, modules=body)
        scale_invariant = movement.scale_invariant_leaves(
            trained.apply_fn(pair.a), trained.params(pair.a), trained.first_inputs(pair.a)
        )
        unit_a, unit_b = (
            {"params": movement.normalised(trained.params(run), scale_invariant)["params"]}
            for run in pair
        )
        unit = distances.by_module(unit_a, unit_b, labels, modules=body)
        return arrays(
            results.Distances,
            modules=list(by_module.modules),
            l2=by_module.l2,
            relative=by_module.relative,
            cosine=by_module.cosine,
            total_l2=total.total_l2,
            total_sum_of_tensor_norms=total.total_sum_of_tensor_norms,
            total_l2_normalised=unit.total_l2 if scale_invariant else np.nan,
            num_scale_invariant=len(scale_invariant),
        )
