"""The questions that a study can be asked: one file and one field here each.

A question's name is that of its field, its file, and the kind of its records; its options are
set under that name in a config (`config.basin.num_draws = 8`).
"""

import dataclasses
from dataclasses import field

from tlx.studies.question import Question
from tlx.studies.questions.basin import Basin
from tlx.studies.questions.checkpoint_interpolation import CheckpointInterpolation
from tlx.studies.questions.checkpoints import Checkpoints
from tlx.studies.questions.criticality import Criticality
from tlx.studies.questions.distances import Distances
from tlx.studies.questions.domains import Domains
from tlx.studies.questions.instability import Instability
from tlx.studies.questions.interpolation import Interpolation
from tlx.studies.questions.learning_curve import LearningCurve
from tlx.studies.questions.linear_probes import LinearProbes
from tlx.studies.questions.mean_learning_curves import MeanLearningCurves
from tlx.studies.questions.mistakes import Mistakes
from tlx.studies.questions.movement import Movement
from tlx.studies.questions.movement_alignment import MovementAlignment
from tlx.studies.questions.permutation import Permutation
from tlx.studies.questions.plane import Plane
from tlx.studies.questions.rewinding import Rewinding
from tlx.studies.questions.similarity import Similarity
from tlx.studies.questions.similarity_by_step import SimilarityByStep
from tlx.studies.questions.spectra import Spectra
from tlx.studies.questions.study import Study
from tlx.studies.questions.sweep import Sweep
from tlx.studies.questions.transferability import Transferability


@dataclasses.dataclass(frozen=True, kw_only=True)
class Questions:
    """All questions with their options, in the order in which they are answered."""

    learning_curve: LearningCurve = field(default_factory=LearningCurve)
    mean_learning_curves: MeanLearningCurves = field(default_factory=MeanLearningCurves)
    sweep: Sweep = field(default_factory=Sweep)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    transferability: Transferability = field(default_factory=Transferability)
    domains: Domains = field(default_factory=Domains)
    mistakes: Mistakes = field(default_factory=Mistakes)
    interpolation: Interpolation = field(default_factory=Interpolation)
    checkpoint_interpolation: CheckpointInterpolation = field(
        default_factory=CheckpointInterpolation
    )
    plane: Plane = field(default_factory=Plane)
    basin: Basin = field(default_factory=Basin)
    permutation: Permutation = field(default_factory=Permutation)
    instability: Instability = field(default_factory=Instability)
    similarity: Similarity = field(default_factory=Similarity)
    similarity_by_step: SimilarityByStep = field(default_factory=SimilarityByStep)
    linear_probes: LinearProbes = field(default_factory=LinearProbes)
    rewinding: Rewinding = field(default_factory=Rewinding)
    criticality: Criticality = field(default_factory=Criticality)
    distances: Distances = field(default_factory=Distances)
    movement: Movement = field(default_factory=Movement)
    movement_alignment: MovementAlignment = field(default_factory=MovementAlignment)
    spectra: Spectra = field(default_factory=Spectra)
    study: Study = field(default_factory=Study)

    def by_name(self) -> dict[str, Question]:
        """All of them."""
        return {one.name: getattr(self, one.name) for one in dataclasses.fields(Questions)}


NAMES = tuple(name for name, one in Questions().by_name().items() if not one.is_always_asked)
"""What a study can be asked besides its learning curves and its times."""
