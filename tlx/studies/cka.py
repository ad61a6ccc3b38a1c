"""The kernel alignment (CKA) of the layers of two runs, and how it is measured."""

import dataclasses
from typing import ClassVar, cast, get_args

import jax

from tlx.analyses.features.similarity import cka_matrix
from tlx.config import problems as check
from tlx.core import checks
from tlx.core.types import Params
from tlx.studies import trained
from tlx.studies.question import CONFIDENCE, Question
from tlx.studies.runs import Pair

SPATIAL = get_args(cka_matrix.Spatial)
"""What `cka_matrix` can do with the positions of a feature map."""

EVIDENCE = ("debiased", "biased", "chance", "z", "low", "high", "too_few")
"""The fields of a `cka_matrix.CkaResult` that are recorded, each [Lx, Ly]."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CkaQuestion(Question):
    """The options of every question about the similarity of features.

    Attributes:
      batch_size: rows of a batch, at least 4; the memory grows with layers × rows².
      spatial: what becomes of the positions of a feature map: "flatten" (an image is the vector
        of all values), "pool" (their mean over positions) or "positions" (each position is an
        example).
      num_resamples: bootstrap resamples of the test images for the intervals; 0: no intervals.
    """

    version: ClassVar[int] = 1

    batch_size: int = 512
    spatial: str = "flatten"
    num_resamples: int = 200

    def problems(self) -> list[str]:
        """Everything that is wrong with its options."""
        problems = check.integer("batch_size", self.batch_size, low=4)
        problems += check.integer("num_resamples", self.num_resamples, low=0)
        if self.spatial not in SPATIAL:
            unknown = checks.unknown("way with positions", self.spatial, SPATIAL)
            problems.append(f"spatial: {unknown}")
        if self.spatial == "positions" and self.num_resamples > 0:
            problems.append(
                "num_resamples: expected 0 with spatial 'positions', since the positions of an "
                f"image cannot be resampled apart, got {self.num_resamples}"
            )
        return problems

    def aligned(self, pair: Pair, params: Params) -> cka_matrix.CkaResult:
        """The first run, with these weights, and the second; the same resamples for every pair."""
        return cka_matrix.cka_matrix(
            trained.features(pair.a),
            params,
            trained.features(pair.b),
            trained.params(pair.b),
            trained.stream(pair.a, batch_size=self.batch_size),
            spatial=cast(cka_matrix.Spatial, self.spatial),
            num_resamples=self.num_resamples,
            key=jax.random.key(0),
            confidence=CONFIDENCE,
        )
