"""The line between two runs, and the loss barrier on it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from tlx.analyses.landscape import barriers
from tlx.records import results
from tlx.studies import keys, lines, trained
from tlx.studies.question import CONFIDENCE, arrays
from tlx.studies.runs import Pair, Plan


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interpolation(lines.LineQuestion):
    """Loss and accuracy on the target's test images along the line between two runs."""

    version: ClassVar[int] = 1

    def subjects(self, plan: Plan) -> list[Pair]:
        """All pairs of two runs of a kind, and P-T with RI-T."""
        return plan.target_pairs()

    def key(self, pair: Pair) -> keys.Key:
        """Of one pair."""
        return keys.of_pair(pair, confidence=CONFIDENCE)

    def answer(self, pair: Pair) -> results.Interpolation:
        """The line, and the barrier on it."""
        a, b = (trained.params(run) for run in pair)
        line = lines.line(pair.a, a, b, self.num_alphas)
        above_ends = barriers.barrier(line.alphas, line.mean["loss"], kind="endpoint_mean")
        return arrays(
            results.Interpolation,
            barrier_endpoint_mean=above_ends.height,
            **lines.measured(line),
            **_areas(line.alphas, line.mean),
        )


def _areas(alphas: Any, mean: Mapping[str, Any]) -> dict[str, Any]:
    """Of several labels an image: the mean area under their ROC curves, and its dip."""
    if "auc" not in mean:
        return {}
    dip = barriers.barrier(alphas, -mean["auc"], kind="chord")
    return {"auc": mean["auc"], "auc_barrier": dip.height}
