"""From which step on two copies of a run share a basin."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import numpy as np

from tlx.analyses.landscape.permutations import alignment
from tlx.analyses.parameters import distances
from tlx.config import problems as check
from tlx.core import partition
from tlx.records import results
from tlx.studies import keys, lines, trained
from tlx.studies.cka import CkaQuestion
from tlx.studies.question import CONFIDENCE, arrays
from tlx.studies.runs import Pair, Plan, Run


class Copies(NamedTuple):
    """A run, and its copies in the order of the steps at which they part from it."""

    run: Run
    copies: tuple[Run, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Instability(CkaQuestion):
    """A run and copies of it that part from it at a step, by other orders of the data or by noise.

    Attributes:
      num_alphas: points on each line, ends included, at least 3; an odd number has ½ among them.
    """

    version: ClassVar[int] = 1
    weight: ClassVar[float] = 300.0
    replicates: ClassVar[int] = 1

    num_alphas: int = 21
    num_resamples: int = 0

    def problems(self) -> list[str]:
        """Everything that is wrong with its options."""
        return check.integer("num_alphas", self.num_alphas, low=3) + super().problems()

    def subjects(self, plan: Plan) -> list[Copies]:
        """Every run of which there are copies."""
        return [Copies(run, copies) for run, copies in plan.forked()]

    def key(self, subject: Copies) -> keys.Key:
        """Of one run and its copies."""
        run, copies = subject
        inputs = {**keys.name_of(run), "replicate": run.replicate, "split": "test"}
        data = keys.data_of([run, *copies])
        return keys.Key(inputs, data, {"confidence": CONFIDENCE})

    def answer(self, subject: Copies) -> results.Instability:
        """Barriers, distance and similarity by the step of parting."""
        run, copies = subject
        each = [self._compared(Pair(run, copy)) for copy in copies]
        fork = copies[0].spec.fork
        assert fork is not None  # they are copies
        return arrays(
            results.Instability,
            step=[int(copy.value) for copy in copies],
            **{name: [found[name] for found in each] for name in each[0]},
            num_examples=trained.num_readable(run),
            noise=fork.noise,
        )

    def _compared(self, pair: Pair) -> dict[str, Any]:
        a, b = (trained.params(run) for run in pair)
        symmetry = alignment.symmetry(trained.apply_fn(pair.a), a, trained.first_inputs(pair.a))
        matching = alignment.weight_matching(symmetry, a, b)
        aligned = alignment.apply_permutation(symmetry, matching.permutations, b)
        found: dict[str, Any] = {}
        for prefix, end in (("", b), ("aligned_", aligned)):
            line = lines.line(pair.a, a, end, self.num_alphas)
            for name, of in (("barrier", "loss"), ("accuracy_barrier", "error")):
                height = lines.barrier(line, of)
                found[prefix + name] = height.height
                found[f"{prefix}{name}_low"] = height.low
                found[f"{prefix}{name}_high"] = height.high
        weights = [trained.weights(one) for one in pair]
        labels = partition.by_depth(weights[0], 1)
        found["distance"] = distances.by_module(weights[0], weights[1], labels).total_l2
        similar = self.aligned(pair, a)
        found["similarity"] = np.nanmean(np.diag(np.asarray(similar.debiased)))
        return found
