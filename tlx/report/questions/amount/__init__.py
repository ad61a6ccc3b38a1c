"""How much data, how far a domain?"""

from tlx.report.question import Part, Question
from tlx.report.questions.amount import figure, words

QUESTION = Question(
    name="amount",
    title="How much data, how far a domain?",
    answer=words.answer,
    parts=(
        Part(
            "amount",
            figure.amount,
            words.caption,
            words.table,
            heading="By the number of training images",
            is_addition=True,
        ),
        Part(
            "domains",
            figure.domains,
            words.domains_caption,
            words.domains_table,
            heading="By the distance of the target",
        ),
    ),
    how=words.HOW,
    finding=words.FINDING,
)
