"""Which records the page reads, and what they say of themselves."""

import os
from collections.abc import Iterable, Sequence

import numpy as np

from tlx.records import KINDS, Record, canonical_json, scan
from tlx.records.names import nearest
from tlx.report.read.values import is_known, word
from tlx.report.words.kinds import Pair, pair, pair_rank

Records = Sequence[Record]
Source = Iterable[Record] | str | os.PathLike[str]
"""A study's records, or the path of their folder."""


def listed(records: Source) -> list[Record]:
    """Records as a list; a path is scanned, and damaged records are left out."""
    if isinstance(records, str | os.PathLike):
        return scan(records)[0]
    return list(records)


def problems(records: Source) -> list[str]:
    """A line for each record with a problem: damaged, of other names than its kind has, or no kind.

    The first two are those of a path; no such record can be in memory.
    """
    if isinstance(records, str | os.PathLike):
        found, lines = scan(records)
    else:
        found, lines = list(records), []
    strange = [r for r in found if r.question not in KINDS]
    for record in sorted(strange, key=lambda r: (r.question, canonical_json(r.key))):
        near = nearest(record.question, KINDS)
        lines.append(f"{record.question} {dict(record.inputs)}: is of no kind of the page{near}")
    return lines


def of_kind(records: Records, kind: str, *needed: str) -> list[Record]:
    """The records of a kind in which the results that are needed are known."""
    return [
        r
        for r in records
        if r.question == kind and all(is_known(getattr(r.results, name)) for name in needed)
    ]


def unshuffled(records: Records, kind: str, *needed: str) -> list[Record]:
    """The records of a kind of unshuffled runs, in the order of their names."""
    found = [r for r in of_kind(records, kind, *needed) if shuffle_of(r) == "none"]
    return sorted(found, key=lambda r: str(r.inputs.get("run", "")))


def shuffle_of(record: Record) -> str:
    """By what the images of a record were shuffled; "none" where they were not."""
    return str(record.inputs.get("shuffle") or "none")


def of_test(records: Records) -> list[Record]:
    """The records of test images; all where there are none."""
    test = [r for r in records if str(r.inputs.get("split", "test")) == "test"]
    return test or list(records)


def by_kind(records: Records, kinds: Sequence[str]) -> dict[str, list[Record]]:
    """The records by kind of run, in the order of `kinds`; without a kind that has none."""
    groups = {k: [r for r in records if str(r.inputs.get("kind", "")) == k] for k in kinds}
    return {k: group for k, group in groups.items() if group}


def by_pair(
    records: Records, kind: str, *needed: str, shuffle: str = "none"
) -> dict[Pair, list[Record]]:
    """The records between two models, by kind of pair; test images, of one shuffle."""
    found = [r for r in of_kind(records, kind, *needed) if shuffle_of(r) == shuffle]
    groups: dict[Pair, list[Record]] = {}
    for record in of_test(found):
        kinds = pair(str(record.inputs.get("kind_a", "?")), str(record.inputs.get("kind_b", "?")))
        groups.setdefault(kinds, []).append(record)
    return {kinds: groups[kinds] for kinds in sorted(groups, key=pair_rank)}


def confidence(records: Records, kind: str) -> str:
    """The level of the intervals of a kind of record, e.g. "95%"; "" where it has none."""
    found = [
        r.options.get("confidence")
        for r in of_kind(records, kind)
        if any(
            ("_" + name).endswith("_low") and np.isfinite(np.asarray(value, np.float64)).any()
            for name, value in r.results._asdict().items()
        )
    ]
    levels = sorted({level for level in found if isinstance(level, float)})
    return " or ".join(f"{100 * level:g}%" for level in levels)


def brackets(records: Records, kind: str) -> str:
    """What a caption says of the intervals; "" without."""
    level = confidence(records, kind)
    return f" Brackets: {level} intervals." if level else ""


def statistics_rule(records: Records, kind: str) -> str:
    """What a caption says of how models off the trained ones got their batch statistics."""
    found = {
        word(rule) for r in of_kind(records, kind) for rule in np.ravel(r.results.statistics)
    } - {"", "none"}
    return f" Batch statistics: {', '.join(sorted(found))}." if found else ""
