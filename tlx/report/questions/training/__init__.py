"""Does pretraining help on the target?"""

from tlx.report.question import Part, Question
from tlx.report.questions.training import figure, words

QUESTION = Question(
    name="training",
    title="Does pretraining help on the target?",
    answer=words.answer,
    parts=(Part("training", figure.training, words.caption, words.table),),
    how=words.HOW,
    finding=words.FINDING,
    key_numbers=words.key_numbers,
)
