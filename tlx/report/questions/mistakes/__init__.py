"""Do they make the same mistakes?"""

from tlx.report.question import Part, Question
from tlx.report.questions.mistakes import figure, words

QUESTION = Question(
    name="mistakes",
    title="Do they make the same mistakes?",
    answer=words.answer,
    parts=(
        Part("mistakes", figure.mistakes, words.caption, words.table),
        Part("gallery", figure.gallery, words.gallery_caption, heading="Which images"),
    ),
    how=words.HOW,
    finding=words.FINDING,
    key_numbers=words.key_numbers,
)
