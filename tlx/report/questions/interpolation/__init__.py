"""Is there a loss barrier between two models?"""

from tlx.report.question import Part, Question
from tlx.report.questions.interpolation import figure, words

QUESTION = Question(
    name="interpolation",
    title="Is there a loss barrier between two models?",
    answer=words.answer,
    parts=(Part("interpolation", figure.interpolation, words.caption, words.table),),
    how=words.HOW,
    finding=words.FINDING,
    key_numbers=words.key_numbers,
)
