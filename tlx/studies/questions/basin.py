"""Whether two runs share a basin: definition 3.1 of the paper."""

import dataclasses
from typing import ClassVar

import jax
import numpy as np

from tlx.analyses.landscape import basins
from tlx.config import problems as check
from tlx.core import tree
from tlx.records import results
from tlx.studies import keys, trained
from tlx.studies.question import CONFIDENCE, Question, arrays, increasing
from tlx.studies.runs import Pair, Plan


@dataclasses.dataclass(frozen=True, kw_only=True)
class Basin(Question):
    """Whether two runs share a basin of the 0-1 error, and its epsilon and delta.

    Attributes:
      noise: increasing; the scan of delta in definition 3.1 of the paper, as the standard
        deviation of the noise on each parameter, delta/√P.
      num_draws: points drawn for each expectation of that definition, at least 2.
      tolerance: the barrier in 0-1 error up to which two models share a basin, at least 0.
    """

    version: ClassVar[int] = 1
    weight: ClassVar[float] = 300.0

    noise: tuple[float, ...] = (0.005, 0.01, 0.02, 0.04)
    num_draws: int = 64
    tolerance: float = 0.02

    def problems(self) -> list[str]:
        """Everything that is wrong with its options."""
        problems = increasing("noise", self.noise)
        problems += check.integer("num_draws", self.num_draws, low=2)
        return problems + check.number("tolerance", self.tolerance, low=0)

    def subjects(self, plan: Plan) -> list[Pair]:
        """The pairs of the first three runs of each kind."""
        return plan.recipe_pairs(most=3)

    def key(self, pair: Pair) -> keys.Key:
        """Of one pair."""
        return keys.of_pair(pair, loss="error", confidence=CONFIDENCE)

    def answer(self, pair: Pair) -> results.Basin:
        """The verdict, and what it rests on."""
        models = [trained.params(run) for run in pair]
        size = tree.count([x for x in jax.tree.leaves(models[0]) if tree.is_inexact(x)])
        shared = basins.same_basin(
            trained.apply_fn(pair.a),
            models,
            trained.stream(pair.a),
            tolerances={"error": self.tolerance, "loss": np.inf},
            deltas=np.sqrt(size) * np.asarray(self.noise),
            key=jax.random.key(0),
            losses=trained.losses(pair.a),
            num_draws=self.num_draws,
            num_examples=trained.num_examples(pair.a),
            confidence=CONFIDENCE,
            chunk=trained.chunk(),
            statistics=trained.stream(pair.a, "train"),
        )
        basin = shared.basins["error"]
        return arrays(
            results.Basin,
            verdict=shared.verdict,
            barrier=shared.barriers["loss"][0],
            barrier_low=shared.low["loss"][0],
            barrier_high=shared.high["loss"][0],
            error_barrier=shared.barriers["error"][0],
            error_low=shared.low["error"][0],
            error_high=shared.high["error"][0],
            tolerance=self.tolerance,
            mean_loss=basin.mu,
            epsilon=basin.epsilon,
            epsilon_error=basin.epsilon_error,
            deltas=basin.deltas,
            noise_rise=basin.noise.excess,
            noise_rise_error=basin.noise.error,
            beyond_rise=basin.beyond.excess,
            beyond_rise_error=basin.beyond.error,
            delta=basin.delta,
            num_draws=self.num_draws,
            num_parameters=size,
            num_examples=trained.num_readable(pair.a),
            statistics=shared.statistics,
        )
