"""Is it features or low-level statistics?"""

from tlx.report.question import Part, Question
from tlx.report.questions.shuffle import figure, words

QUESTION = Question(
    name="shuffle",
    title="Is it features or low-level statistics?",
    answer=words.answer,
    parts=(Part("shuffle", figure.shuffle, words.caption, words.table),),
    how=words.HOW,
    finding=words.FINDING,
)
