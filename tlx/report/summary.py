"""The key numbers of a study and its answers as text, for the page and for a terminal."""

import os
import textwrap

from tlx.records import KINDS
from tlx.report.question import Answer
from tlx.report.questions import QUESTIONS
from tlx.report.read.selection import Records, Source, confidence, listed, problems
from tlx.report.words import verdicts
from tlx.report.words.kinds import TRAINED
from tlx.report.words.numbers import NO_DATA
from tlx.report.words.table import Table

_VERDICTS = {
    verdicts.AGREES: "agrees",
    verdicts.DIFFERS: "differs",
    verdicts.OPEN: "too close",
    verdicts.NO_INTERVAL: "no interval",
    "": "",
}
"""The headline's last column: does the paper's order hold here?"""


def answers(records: Source) -> dict[str, Answer]:
    """The answer to each question of the page, by its name."""
    records = listed(records)
    return {name: question.answer(records) for name, question in QUESTIONS.items()}


def headline(records: Source) -> Table:
    """The key numbers of a study: P-T against RI-T, and whether the paper's order holds.

    Args:
      records: a study's records, or the path of their folder.

    Returns:
      A row a quantity that was measured of P-T or of RI-T; all of them, with "no data", where
      none was. A column S-T where something was measured of it.
    """
    records = listed(records)
    rows = []
    for question in QUESTIONS.values():
        for found in question.key_numbers(records):
            verdict = found.verdict
            if verdict is None:
                verdict = question.answer(records).verdict
            rows.append((found.name, found.cells, _VERDICTS[verdict]))
    measured = [row for row in rows if any(row[1].get(k, NO_DATA) != NO_DATA for k in TRAINED)]
    has_control = any(cells.get("S-T", NO_DATA) != NO_DATA for _, cells, _ in rows)
    kinds = ("P-T", "S-T", "RI-T") if has_control else TRAINED
    return Table(
        (_levels(records), *kinds, "paper"),
        tuple(
            (name, *(cells.get(kind, NO_DATA) for kind in kinds), verdict)
            for name, cells, verdict in measured or rows
        ),
    )


def _levels(records: Records) -> str:
    """What brackets are, e.g. "95% intervals"; "" where nothing has one."""
    levels = sorted({level for kind in KINDS if (level := confidence(records, kind))})
    return f"{' or '.join(levels)} intervals" if levels else ""


def text(records: Source) -> str:
    """The key numbers and the answers as plain text, for the end of a run.

    Args:
      records: a study's records, or the path of their folder.

    Returns:
      Lines of at most 100 characters; "no data" where something was not measured. At the end
      the problems with the records, where there are any.

    Raises:
      ValueError: a path that is no folder.
    """
    if not isinstance(records, str | os.PathLike):
        records = listed(records)
    lines, records = problems(records), listed(records)
    parts = [headline(records).text()]
    for name, answer in answers(records).items():
        sentence = answer.sentence or f"{NO_DATA.capitalize()}."
        parts.append(f"{QUESTIONS[name].title}\n{_wrapped(sentence, '  ')}")
    if lines:
        wrapped = [_wrapped(line, "    ") for line in lines]
        parts.append("\n".join(["Source left out or with problems", *wrapped]))
    return "\n\n".join(parts) + "\n"


def _wrapped(sentence: str, indent: str) -> str:
    return textwrap.fill(sentence, 96, initial_indent="  ", subsequent_indent=indent)
