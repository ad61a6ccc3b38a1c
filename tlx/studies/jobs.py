"""Which jobs of a cluster do the parts of a work, and which of them wait for which.

A job does some parts; jobs that wait for the same are submitted together, as an array. So what a
job waits for is exact, and there are about as many submissions as there are ways to depend.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from tlx.studies.pool import Part

RUN = "train"
"""The kind of the parts that are runs, see `tlx.studies.graph.parts`."""


class Array(NamedTuple):
    """Jobs that are submitted together.

    Attributes:
      jobs: the numbers of the parts that each does.
      needs: numbers of the parts that all of them wait for.
    """

    jobs: tuple[tuple[int, ...], ...]
    needs: frozenset[int]


def arrays(
    parts: Sequence[Part], todo: Collection[int], waited_for: Collection[int], *, runs: int = 1
) -> list[Array]:
    """The jobs that do what is to be done, in an order in which they can be submitted.

    Runs share a job only where they wait for the same. A question's subjects are done by one job as
    long as they weigh no more than the runs of one.

    Args:
      parts: all there are.
      todo: numbers of those to be done.
      waited_for: numbers of those that are being done by others; what is in neither is done.
      runs: that a job does.
    """
    chosen = set(todo)
    pending = chosen.union(waited_for)
    needs = {n: parts[n].needs & pending for n in sorted(chosen)}
    by_needs: dict[frozenset[int], list[tuple[int, ...]]] = {}
    for job in sorted(_jobs(parts, needs, runs)):
        union = frozenset[int]().union(*(needs[number] for number in job))
        by_needs.setdefault(union, []).append(job)
    depth: dict[int, int] = {}
    found = [Array(tuple(jobs), waits) for waits, jobs in by_needs.items()]
    for array in sorted(found, key=lambda array: array.jobs[0]):  # what is needed comes first
        below = [depth.get(number, -1) for number in array.needs]
        depth |= {n: 1 + max(below, default=-1) for job in array.jobs for n in job}
    return sorted(found, key=lambda array: (depth[array.jobs[0][0]], array.jobs[0]))


def _jobs(
    parts: Sequence[Part], needs: Mapping[int, frozenset[int]], runs: int
) -> Iterator[tuple[int, ...]]:
    """The parts of each job."""
    most = runs * max((part.weight for part in parts if part.kind == RUN), default=1.0)
    begun: dict[object, tuple[list[int], float]] = {}
    for number, waits in needs.items():
        part = parts[number]
        key: object = (RUN, waits) if part.kind == RUN else part.kind
        job, weight = begun.get(key, ([], 0.0))
        is_full = len(job) == runs if part.kind == RUN else weight + part.weight > most
        if job and is_full:
            yield tuple(job)
            job, weight = [], 0.0
        begun[key] = [*job, number], weight + part.weight
    yield from (tuple(job) for job, _ in begun.values())


def split(array: Array, most: int) -> list[Array]:
    """An array as several, of at most so many jobs."""
    firsts = range(0, len(array.jobs), most)
    return [array._replace(jobs=array.jobs[first : first + most]) for first in firsts]
