"""Which modules carry it?"""

from tlx.report.question import Part, Question
from tlx.report.questions.modules import figure, table, words

QUESTION = Question(
    name="modules",
    title="Which modules carry it?",
    answer=words.answer,
    parts=(
        Part("rewinding", figure.rewinding, words.rewinding_caption),
        Part("criticality", figure.criticality, words.criticality_caption, table.table),
        Part(
            "movement",
            figure.movement,
            words.movement_caption,
            heading="How the modules moved",
            is_addition=True,
        ),
    ),
    how=words.HOW,
    finding=words.FINDING,
    key_numbers=words.key_numbers,
)
