"""From which checkpoint should one start?"""

from tlx.report.question import Part, Question
from tlx.report.questions.starts import figure, words

QUESTION = Question(
    name="starts",
    title="From which checkpoint should one start?",
    answer=words.answer,
    parts=(
        Part("starts", figure.starts, words.caption, words.table),
        Part(
            "transferability",
            figure.transferability,
            words.transferability_caption,
            words.transferability_table,
            heading="Transferability scores",
            is_addition=True,
        ),
    ),
    how=words.HOW,
    finding=words.FINDING,
)
