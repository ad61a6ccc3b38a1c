"""How far apart are they in parameter space?"""

from tlx.report.question import Part, Question
from tlx.report.questions.distances import figure, words

QUESTION = Question(
    name="distances",
    title="How far apart are they in parameter space?",
    answer=words.answer,
    parts=(Part("distances", figure.distances, words.caption, words.table),),
    how=words.HOW,
    finding=words.FINDING,
    key_numbers=words.key_numbers,
)
