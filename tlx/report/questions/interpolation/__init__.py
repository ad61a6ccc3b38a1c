"""Is there a loss barrier between two models?"""

from tlx.report.question import Part, Question
from tlx.report.questions.interpolation import checkpoints, clusters, figure, words

QUESTION = Question(
    name="interpolation",
    title="Is there a loss barrier between two models?",
    answer=words.answer,
    parts=(
        Part("interpolation", figure.interpolation, words.caption, words.table),
        Part(
            "checkpoint_interpolation",
            checkpoints.panels,
            checkpoints.caption,
            checkpoints.table,
            "Between checkpoints",
            is_addition=True,
        ),
        Part(
            "clusters",
            clusters.panels,
            clusters.caption,
            clusters.table,
            "Clusters of runs",
            is_addition=True,
        ),
    ),
    how=words.HOW,
    finding=words.FINDING,
    key_numbers=words.key_numbers,
)
