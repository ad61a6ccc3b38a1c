"""The representation similarity of all layers of two runs."""

import dataclasses

from tlx.records import results
from tlx.studies import keys, trained
from tlx.studies.cka import EVIDENCE, CkaQuestion
from tlx.studies.question import CONFIDENCE, arrays
from tlx.studies.runs import Pair, Plan


@dataclasses.dataclass(frozen=True, kw_only=True)
class Similarity(CkaQuestion):
    """Kernel alignment of all layers of two runs on the test images of the first one's target."""

    def subjects(self, plan: Plan) -> list[Pair]:
        """Two of each kind, P-T with RI-T and with P; and so on shuffled images."""
        pairs = []
        for shuffle in ("none", *plan.shuffles()):
            pairs += plan.target_pairs(shuffle) + plan.source_pairs("P-T", shuffle=shuffle)
        return pairs

    def key(self, pair: Pair) -> keys.Key:
        """Of one pair."""
        return keys.of_pair(pair, confidence=CONFIDENCE)

    def answer(self, pair: Pair) -> results.Similarity:
        """The alignment, with the evidence for it."""
        aligned = self.aligned(pair, trained.params(pair.a))
        return arrays(
            results.Similarity,
            layers_a=list(aligned.layers_x),
            layers_b=list(aligned.layers_y),
            **{name: getattr(aligned, name) for name in EVIDENCE},
            num_examples=aligned.num_examples,
            num_left_out=aligned.num_left_out,
        )
