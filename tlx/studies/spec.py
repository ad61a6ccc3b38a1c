"""What a transfer study is: three kinds of run, and what is asked of them and between them."""

import dataclasses
import itertools

from tlx.analyses.parameters import spectra
from tlx.core import checks
from tlx.studies import axes, partial
from tlx.train.spec import InitFrom, RunSpec

SEEDS_APART = 1000
"""Distance between the seeds of replicates."""

SPATIAL = ("flatten", "pool", "positions")
"""What `tlx.analyses.features.similarity.cka_matrix` can do with the positions of a feature map."""

QUESTIONS = (
    "sweeps",
    "checkpoints",
    "transferability",
    "domains",
    "mistakes",
    "lines",
    "planes",
    "basins",
    "permutations",
    "feature similarity",
    "similarity by step",
    "linear probes",
    "rewinding",
    "criticality",
    "distances",
    "movement",
    "shared directions",
    "spectra",
)
"""What a study can be asked besides its learning curves."""

SINGLE = frozenset(("sweeps", "checkpoints", "transferability", "domains", "mistakes"))
"""Those that need no second run of a recipe; without one there are no intervals over seeds."""

LEAST = {
    "replicates": 1,
    "num_alphas": 3,
    "plane_points": 2,
    "basin_draws": 2,
    "basin_tolerance": 0,
    "similarity_batch": 4,
    "similarity_resamples": 0,
    "criticality_alphas": 2,
    "criticality_draws": 1,
    "criticality_tolerance": 0,
    "subspace_rank": 1,
}
"""The least value of each number of a study."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudySpec:
    """A transfer study: P on the source, P-T and RI-T on the target, plain and shuffled.

    Attributes:
      name: short name, for files.
      title: the title of the page.
      pretrain: the run on the source, P. With `init_from` (head "keep") and no steps it is the
        model of another run.
      finetune: the runs on the target from P's weights, P-T; its `init_from` is set by the
        study.
      scratch: the runs on the target from random weights, RI-T.
      init_step: the checkpoint of P to start from: a step, "last" or "best".
      init_head: what fine-tuning's new head starts from; see `tlx.train.spec.InitFrom`.
      replicates: P-T and RI-T runs of each kind, at least 2 where a question compares pairs;
        replicate i has the config's seed plus i·1000.
      rates: further learning rates with which every P-T and RI-T is trained too.
      shuffles: shuffled versions of the target, in the words of `DataSpec.shuffle`.
      train_sizes: other numbers of training images of the target.
      targets: other targets, by the names of their sources; all else as the target's.
      init_steps: earlier steps of P, which it keeps, from which P-T starts too.
      questions: names of `QUESTIONS`, those that are asked; none: all that the runs allow.
      num_alphas: points on each line, ends included, at least 3; an odd number has ½ among
        them.
      plane_points: points along each side of the plane through two P-T and one RI-T, at least 2.
      basin_noise: increasing; the scan of delta in definition 3.1 of the paper, as the
        standard deviation of the noise on each parameter, delta/√P.
      basin_draws: points drawn for each expectation of that definition, at least 2.
      basin_tolerance: the barrier in 0-1 error up to which two models share a basin.
      similarity_batch: rows of a batch for the kernel alignment; its memory grows with
        layers × rows².
      similarity_spatial: what becomes of the positions of a feature map: "flatten" (an image
        is the vector of all values), "pool" (their mean over positions) or "positions" (each
        position is an example).
      similarity_resamples: bootstrap resamples of the test images for the intervals of the
        kernel alignment; 0: no intervals.
      criticality_alphas: places on the straight line from step 0 to the last at which each
        module is tried, ends included, at least 2; on the way of the optimiser it is tried at
        every checkpoint.
      criticality_noise: increasing from 0 or more, with one above 0; the noise that a module is
        tried in, as the standard deviation on each weight.
      criticality_draws: draws of that noise, at least 1.
      criticality_tolerance: how far the 0-1 error on the training images may be above the trained
        model's for a module's place and noise to count as harmless.
      spectra_kind: how convolutions are seen for their singular values: "circular" (with
        circular padding, exact), "reshaped" (the kernel as a matrix) or "operator" (with the
        layer's own padding and strides; the largest values only).
      subspace_rank: the leading directions of two runs' movements that are compared.
      partial: further P-T runs that start from some modules of P only, the rest fresh: "first:k"
        takes the first k modules (of the body, so that k is 0 … their number), "except:k" all but
        those; "first:k:frozen" trains the others only.
    """

    name: str
    title: str
    pretrain: RunSpec
    finetune: RunSpec
    scratch: RunSpec
    init_step: int | str = "last"
    init_head: str = "zeros"
    replicates: int = 2
    rates: tuple[float, ...] = ()
    shuffles: tuple[str, ...] = ()
    train_sizes: tuple[int, ...] = ()
    targets: tuple[str, ...] = ()
    init_steps: tuple[int, ...] = ()
    questions: tuple[str, ...] = ()
    num_alphas: int = 21
    plane_points: int = 21
    basin_noise: tuple[float, ...] = (0.005, 0.01, 0.02, 0.04)
    basin_draws: int = 64
    basin_tolerance: float = 0.02
    similarity_batch: int = 512
    similarity_spatial: str = "flatten"
    similarity_resamples: int = 200
    criticality_alphas: int = 11
    criticality_noise: tuple[float, ...] = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
    criticality_draws: int = 3
    criticality_tolerance: float = 0.02
    spectra_kind: str = "circular"
    subspace_rank: int = 1
    partial: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        """Everything that is wrong, each with its place; empty if nothing is."""
        found = []
        for part in ("pretrain", "finetune", "scratch"):
            run: RunSpec = getattr(self, part)
            found += [f"{part}.{problem}" for problem in run.problems()]
            found += [f"{part}.data.{problem}" for problem in run.data.unavailable()]
        start = InitFrom(workdir="P", step=self.init_step, head=self.init_head)
        found += [f"init_{problem}" for problem in start.problems()]
        for field, least in LEAST.items():
            if getattr(self, field) < least:
                found.append(f"{field}: expected at least {least}, got {getattr(self, field)}")
        for field in ("basin_noise", "criticality_noise"):
            noise = getattr(self, field)
            if not noise or noise[0] < 0 or any(a >= b for a, b in itertools.pairwise(noise)):
                found.append(f"{field}: expected numbers that increase from 0 or more, got {noise}")
        if not any(sigma > 0 for sigma in self.criticality_noise):
            found.append("criticality_noise: expected a number above 0, got none")
        if self.spectra_kind not in spectra.KINDS:
            problem = checks.unknown("kind", self.spectra_kind, spectra.KINDS)
            found.append(f"spectra_kind: {problem}")
        if self.similarity_spatial not in SPATIAL:
            problem = checks.unknown("way with positions", self.similarity_spatial, SPATIAL)
            found.append(f"similarity_spatial: {problem}")
        if self.similarity_spatial == "positions" and self.similarity_resamples > 0:
            found.append(
                "similarity_resamples: expected 0 with similarity_spatial 'positions', since the "
                f"positions of an image cannot be resampled apart, got {self.similarity_resamples}"
            )
        for name in self.questions:
            if name not in QUESTIONS:
                found.append(f"questions: {checks.unknown('question', name, QUESTIONS)}")
        if self.replicates < 2 and (pairs := sorted(set(self.questions or QUESTIONS) - SINGLE)):
            found.append(
                f"replicates: expected at least 2, since {', '.join(pairs)} compare runs of one "
                f"recipe, got {self.replicates}; or choose questions from "
                f"{', '.join(sorted(SINGLE))}"
            )
        return found or self._cross_problems()

    def _cross_problems(self) -> list[str]:
        found = []
        if self.finetune.init_from or self.scratch.init_from:
            found.append("init_from: the study sets it; leave it None in finetune and scratch")
        for field in ("model", "data", "loss"):
            ours, theirs = getattr(self.finetune, field), getattr(self.scratch, field)
            if ours != theirs:
                found.append(
                    f"finetune.{field} and scratch.{field}: expected equal ones, since P-T and "
                    f"RI-T are compared, got {ours} and {theirs}"
                )
        found += [
            f"partial: {problem}" for problem in partial.problems(self.partial, self.finetune)
        ]
        return found + axes.problems(self)
