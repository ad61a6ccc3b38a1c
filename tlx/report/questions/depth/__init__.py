"""What is in which layer, and how deep does it transfer?"""

from tlx.report.question import Part, Question
from tlx.report.questions.depth import figure, words

QUESTION = Question(
    name="depth",
    title="What is in which layer, and how deep does it transfer?",
    answer=words.answer,
    parts=(
        Part(
            "linear_probes",
            figure.linear_probes,
            words.probes_caption,
            words.probes_table,
            heading="Linear probes",
            is_addition=True,
        ),
        Part(
            "partial_transfer",
            figure.partial_transfer,
            words.partial_transfer_caption,
            words.partial_transfer_table,
            heading="Starting from some of the modules",
            is_addition=True,
        ),
        Part(
            "spectra",
            figure.spectra,
            words.spectra_caption,
            words.spectra_table,
            heading="The singular values of the layers",
        ),
    ),
    how=words.HOW,
    finding=words.FINDING,
)
