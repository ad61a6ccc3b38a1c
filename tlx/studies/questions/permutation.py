"""The line between two runs, with the second's hidden units in the order of the first's."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from tlx.analyses.landscape.permutations import alignment
from tlx.core.types import Params
from tlx.records import results
from tlx.studies import keys, lines, trained
from tlx.studies.question import CONFIDENCE, arrays
from tlx.studies.runs import Pair, Plan


@dataclasses.dataclass(frozen=True, kw_only=True)
class Permutation(lines.LineQuestion):
    """Whether a barrier is one of the order of hidden units alone."""

    version: ClassVar[int] = 1
    weight: ClassVar[float] = 300.0

    def subjects(self, plan: Plan) -> list[Pair]:
        """The pairs of the first three RI-T."""
        return plan.pairs_of("RI-T", most=3)

    def key(self, pair: Pair) -> keys.Key:
        """Of one pair."""
        return keys.of_pair(pair, confidence=CONFIDENCE)

    def answer(self, pair: Pair) -> results.Permutation:
        """The line, plain and with hidden units in one order."""
        a, b = (trained.params(run) for run in pair)
        inputs = trained.first_inputs(pair.a)
        apply_fn, calibration = trained.apply_fn(pair.a), trained.stream(pair.a, "train")
        symmetry = alignment.symmetry(apply_fn, a, inputs)
        weights = alignment.weight_matching(symmetry, a, b)
        activations = alignment.activation_matching(apply_fn, symmetry, a, b, calibration)
        by_weights, by_activations = (
            alignment.apply_permutation(symmetry, matching.permutations, b)
            for matching in (weights, activations)
        )
        for permuted in (by_weights, by_activations):
            alignment.check_same_function(apply_fn, b, permuted, inputs)
        ends = {
            "plain": b,
            "weights": by_weights,
            "activations": by_activations,
            "repaired": by_activations,
        }
        return arrays(
            results.Permutation,
            variants=list(ends),
            distance=[
                weights.distance_before,
                weights.distance_after,
                activations.distance_after,
                np.nan,
            ],
            num_units=sum(group.size for group in symmetry.groups.values()),
            num_examples=trained.num_readable(pair.a),
            **self._lines(pair, a, ends),
        )

    def _lines(self, pair: Pair, a: Params, ends: Mapping[str, Params]) -> dict[str, Any]:
        each = [
            lines.line(pair.a, a, b, self.num_alphas, repair=variant == "repaired")
            for variant, b in ends.items()
        ]
        fields = {
            "alphas": each[0].alphas,
            "statistics": [line.statistics for line in each],
            "loss": [line.mean["loss"] for line in each],
            "accuracy": [line.mean["accuracy"] for line in each],
        }
        for name, of in (("barrier", "loss"), ("accuracy_barrier", "error")):
            heights = [lines.barrier(line, of) for line in each]
            fields[name] = [height.height for height in heights]
            fields[f"{name}_low"] = [height.low for height in heights]
            fields[f"{name}_high"] = [height.high for height in heights]
        return fields
