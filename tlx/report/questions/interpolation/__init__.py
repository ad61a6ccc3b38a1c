"""Are two models joined by a straight line?"""

from tlx.report.question import Part, Question
from tlx.report.questions.interpolation import figure, words

QUESTION = Question(
    name="interpolation",
    title="Are two models joined by a straight line?",
    answer=words.answer,
    parts=(Part("interpolation", figure.interpolation, words.caption, words.table),),
    how=words.HOW,
    finding=words.FINDING,
    key_numbers=words.key_numbers,
)
