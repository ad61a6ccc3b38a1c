"""Do they compute the same features?"""

from tlx.report.question import Part, Question
from tlx.report.questions.similarity import figure, words

QUESTION = Question(
    name="similarity",
    title="Do they compute the same features?",
    answer=words.answer,
    parts=(
        Part("similarity", figure.similarity, words.caption, words.table),
        Part(
            "similarity_shuffled",
            figure.similarity_shuffled,
            words.shuffled_caption,
            words.shuffled_table,
            heading="On shuffled images",
            is_addition=True,
        ),
        Part(
            "similarity_by_step",
            figure.similarity_by_step,
            words.by_step_caption,
            heading="Over the training",
            is_addition=True,
        ),
    ),
    how=words.HOW,
    finding=words.FINDING,
    key_numbers=words.key_numbers,
)
