"""What does the loss landscape between them look like?"""

from tlx.report.question import Part, Question
from tlx.report.questions.landscape import figure, words

QUESTION = Question(
    name="landscape",
    title="What does the loss landscape between them look like?",
    answer=words.answer,
    parts=(
        Part("landscape", figure.landscape, words.caption, words.table),
        Part(
            "permutation",
            figure.permutation,
            words.permutation_caption,
            words.permutation_table,
            heading="After permutation alignment",
            is_addition=True,
        ),
    ),
    how=words.HOW,
    finding=words.FINDING,
    key_numbers=words.key_numbers,
)
