"""The questions of the page: a room each, which do not know each other.

A room has one `QUESTION`. In `numbers` records become small tuples, which `figure` draws and
`words` says.
"""

from tlx.report.question import Part, Question
from tlx.report.questions import (
    amount,
    depth,
    distances,
    instability,
    interpolation,
    landscape,
    mistakes,
    modules,
    shuffle,
    similarity,
    starts,
    training,
)

QUESTIONS: dict[str, Question] = {
    room.QUESTION.name: room.QUESTION
    for room in (
        training,
        shuffle,
        amount,
        starts,
        interpolation,
        landscape,
        instability,
        similarity,
        depth,
        modules,
        distances,
        mistakes,
    )
}
"""By name, in the order of the page."""

PARTS: dict[str, Part] = {part.name: part for q in QUESTIONS.values() for part in q.parts}
"""The figures by name."""
