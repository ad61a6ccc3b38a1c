"""The key numbers of a study and its answers as text, for the page and for a terminal."""

import os
import textwrap
from collections.abc import Mapping
from typing import NamedTuple

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


_KINDS = ("P-T", "S-T", "RI-T")


class _Row(NamedTuple):
    """A key number: its name, its cells by kind of run, and the verdict in words."""

    name: str
    cells: Mapping[str, str]
    verdict: str

    def has(self, kind: str) -> bool:
        return self.cells.get(kind, NO_DATA) != NO_DATA


def headline(records: Source) -> Table:
    """The key numbers of a study: P-T against RI-T, and whether the paper's order holds.

    Args:
      records: a study's records, or the path of their folder.

    Returns:
      A row a quantity that was measured of P-T or of RI-T; all of them, with "no data", where
      none was. A column S-T where something was measured of it.
    """
    records = listed(records)
    rows = _key_rows(records)
    measured = [row for row in rows if any(map(row.has, TRAINED))]
    has_control = any(row.has("S-T") for row in rows)
    kinds = _KINDS if has_control else TRAINED
    return Table(
        (_levels(records), *kinds, "paper"),
        tuple(
            (row.name, *(row.cells.get(kind, NO_DATA) for kind in kinds), row.verdict)
            for row in measured or rows
        ),
    )


def _key_rows(records: Records) -> list[_Row]:
    rows = []
    for question in QUESTIONS.values():
        for found in question.key_numbers(records):
            verdict = found.verdict
            if verdict is None:
                verdict = question.answer(records).verdict
            rows.append(_Row(found.name, found.cells, _VERDICTS[verdict]))
    return rows


def beside(studies: Mapping[str, Source]) -> tuple[Table, Table]:
    """What several studies found, a column each: on several targets, say.

    Args:
      studies: the name of each -> its records, or the path of their folder.

    Returns:
      Their key numbers, a row a quantity and kind of run; and the claims of the paper that were
      held against one of them, with whether they hold there. "no data" where a study has none.

    Raises:
      ValueError: no studies, or a path that is no folder.
    """
    if not studies:
        raise ValueError("expected at least one study by name, got none")
    listed_by_name = {name: listed(records) for name, records in studies.items()}
    numbers, claims = dict[str, dict[str, str]](), dict[str, dict[str, str]]()
    for study, records in listed_by_name.items():
        for row in _key_rows(records):
            for kind in _KINDS:
                if row.has(kind):
                    numbers.setdefault(f"{row.name}, {kind}", {})[study] = row.cells[kind]
        for answer in answers(records).values():
            for check in answer.checks:
                claims.setdefault(check.claim, {})[study] = _VERDICTS[check.verdict]
    levels = " or ".join(dict.fromkeys(filter(None, map(_levels, listed_by_name.values()))))
    return _by_study(levels, list(studies), numbers), _by_study("paper", list(studies), claims)


def _by_study(what: str, studies: list[str], rows: Mapping[str, Mapping[str, str]]) -> Table:
    return Table(
        (what, *studies),
        tuple(
            (name, *(cells.get(study, "") or NO_DATA for study in studies))
            for name, cells in rows.items()
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
