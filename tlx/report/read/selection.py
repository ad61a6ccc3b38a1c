"""Which records the page reads, and what they say of themselves."""

import os
from collections.abc import Iterable, Sequence

import numpy as np

from tlx.records import Record, canonical_json, fields, scan
from tlx.report.words.kinds import Pair, pair, pair_rank

Records = Sequence[Record]
Source = Iterable[Record] | str | os.PathLike[str]
"""A study's records, or the path of their folder."""


def listed(records: Source) -> list[Record]:
    """Records as a list; a path is scanned, and damaged records are left out."""
    if isinstance(records, str | os.PathLike):
        return scan(records)[0]
    return list(records)


def usable(records: Records, question: str) -> list[Record]:
    """The records of a question that hold the results it needs."""
    return [r for r in records if r.question == question and not fields.lacking(r)]


def problems(records: Source) -> list[str]:
    """A line for each record with a problem: damaged, or with wrong names in it.

    A record that lacks what the page needs is left out of it. Damaged ones are those of a path.
    """
    found, lines = (
        scan(records) if isinstance(records, str | os.PathLike) else (listed(records), [])
    )
    for record in sorted(found, key=lambda r: (r.question, canonical_json(r.key))):
        if wrong := fields.problems(record):
            lines.append(f"{record.question} {dict(record.inputs)}: {'; '.join(wrong)}")
    return lines


def option(record: Record, name: str) -> object:
    """An option of the analysis; None where the record has none of the name."""
    return (record.key.get("options") or {}).get(name)


def confidence(records: Records, question: str) -> str:
    """The level of a question's intervals, e.g. `"95%"`; "" where it has none."""
    found = [
        option(r, "confidence")
        for r in usable(records, question)
        if any(
            ("_" + name).endswith("_low") and np.isfinite(np.asarray(value, np.float64)).any()
            for name, value in r.results.items()
        )
    ]
    levels = sorted({level for level in found if isinstance(level, float)})
    return " or ".join(f"{100 * level:g}%" for level in levels)


def statistics(records: Records, question: str) -> list[str]:
    """The rules by which models off the trained ones got their batch statistics.

    Empty where the models have none.
    """
    found = {str(r.results.get("statistics", "none")) for r in usable(records, question)}
    return sorted(found - {"none"})


def by_pair(records: Records, question: str, shuffle: str = "none") -> dict[Pair, list[Record]]:
    """The records between two models, by kind of pair; test images, of one shuffle.

    Where some records of the question are of the test split, those of others are left out.
    """
    found = [
        r for r in usable(records, question) if str(r.inputs.get("shuffle") or "none") == shuffle
    ]
    test = [r for r in found if str(r.inputs.get("split", "test")) == "test"]
    groups: dict[Pair, list[Record]] = {}
    for record in test or found:
        kinds = pair(str(record.inputs.get("kind_a", "?")), str(record.inputs.get("kind_b", "?")))
        groups.setdefault(kinds, []).append(record)
    return {kinds: groups[kinds] for kinds in sorted(groups, key=pair_rank)}


def brackets(records: Records, question: str) -> str:
    """What a caption says of the intervals; "" without."""
    level = confidence(records, question)
    return f" Brackets: {level} intervals." if level else ""


def statistics_rule(records: Records, question: str) -> str:
    """What a caption says of the rule of the batch statistics; "" without any."""
    rules = statistics(records, question)
    return f" Batch statistics: {', '.join(rules)}." if rules else ""


def in_brackets(records: Records, question: str) -> str:
    """The level of a question's intervals for a row's name, e.g. " [95%]"; "" without."""
    level = confidence(records, question)
    return f" [{level}]" if level else ""
