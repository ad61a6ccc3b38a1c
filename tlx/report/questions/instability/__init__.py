"""From which step on do two copies of a run share a basin?"""

from tlx.report.question import Part, Question
from tlx.report.questions.instability import figure, words

QUESTION = Question(
    name="instability",
    title="From which step on do two copies share a basin?",
    answer=words.answer,
    parts=(Part("instability", figure.instability, words.caption, words.table),),
    how=words.HOW,
    finding=words.FINDING,
)
