"""The questions that a study can be asked: one file and one field here each.

A question's name is that of its field, its file, and the kind of its records; its options are
set under that name in a config (`config.basin.num_draws = 8`).
"""

import dataclasses

from tlx.studies.question import Question
from tlx.studies.questions.basin import Basin
from tlx.studies.questions.checkpoints import Checkpoints
from tlx.studies.questions.criticality import Criticality
from tlx.studies.questions.distances import Distances
from tlx.studies.questions.domains import Domains
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

    learning_curve: LearningCurve = LearningCurve()
    mean_learning_curves: MeanLearningCurves = MeanLearningCurves()
    sweep: Sweep = Sweep()
    checkpoints: Checkpoints = Checkpoints()
    transferability: Transferability = Transferability()
    domains: Domains = Domains()
    mistakes: Mistakes = Mistakes()
    interpolation: Interpolation = Interpolation()
    plane: Plane = Plane()
    basin: Basin = Basin()
    permutation: Permutation = Permutation()
    similarity: Similarity = Similarity()
    similarity_by_step: SimilarityByStep = SimilarityByStep()
    linear_probes: LinearProbes = LinearProbes()
    rewinding: Rewinding = Rewinding()
    criticality: Criticality = Criticality()
    distances: Distances = Distances()
    movement: Movement = Movement()
    movement_alignment: MovementAlignment = MovementAlignment()
    spectra: Spectra = Spectra()
    study: Study = Study()

    def by_name(self) -> dict[str, Question]:
        """All of them."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(Questions)}


NAMES = tuple(name for name, one in Questions().by_name().items() if not one.is_always_asked)
"""What a study can be asked besides its learning curves and its times."""
