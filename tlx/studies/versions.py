"""The version number of each question of a study."""

from collections.abc import Mapping

from tlx.core import checks

QUESTIONS: Mapping[str, int] = {
    "basin": 1,
    "checkpoints": 1,
    "criticality": 1,
    "curves": 1,
    "distances": 1,
    "domains": 1,
    "interpolation": 1,
    "learning": 1,
    "mistakes": 1,
    "movement": 1,
    "movement_alike": 1,
    "permutation": 1,
    "plane": 1,
    "probes": 1,
    "rewinding": 1,
    "similarity": 1,
    "similarity_trajectory": 1,
    "spectra": 1,
    "study": 1,
    "sweep": 1,
    "transferability": 1,
}
"""Raise a number when what its question answers changes: when the analysis that answers it, or how
it is asked, gives another number for the same runs and data. It stands in the key of every record,
so that records of before are not found again, and the question is answered anew."""


def of(question: str) -> int:
    """The version number of a question.

    Raises:
      ValueError: it has none.
    """
    if question not in QUESTIONS:
        told = checks.unknown("question with a version number", question, sorted(QUESTIONS))
        raise ValueError(f"{told}; give it one in tlx.studies.versions")
    return QUESTIONS[question]
