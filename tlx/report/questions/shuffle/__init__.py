"""Is it features or low-level statistics?"""

from tlx.report.question import Part, Question
from tlx.report.questions.shuffle import arms, figure, words

QUESTION = Question(
    name="shuffle",
    title="Is it features or low-level statistics?",
    answer=words.answer,
    parts=(
        Part("shuffle", figure.shuffle, words.caption, words.table),
        Part(
            "arms",
            arms.panels,
            arms.caption,
            arms.table,
            "Random weights with the statistics of P's",
            is_addition=True,
        ),
    ),
    how=words.HOW,
    finding=words.FINDING,
    key_numbers=words.key_numbers,
)
