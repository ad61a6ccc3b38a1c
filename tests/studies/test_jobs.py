"""Which jobs do the parts of a work, and which wait for which."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.studies.tiny import tiny_study
from tlx.studies import graph, jobs, workdir
from tlx.studies.jobs import Array
from tlx.studies.pool import Part


def part(needs=(), kind="train", weight=100.0):
    return Part(kind, kind, weight, frozenset(needs))


def test_runs_that_wait_for_the_same_are_one_array_and_questions_fill_jobs():
    parts = [part(), part(), part([0]), part([0]), part([2, 3])]
    parts += [part([n], "distances", 40.0) for n in (0, 1, 2, 3)]
    parts += [part([0, 1], "basin", 1000.0), part(range(10), "page", 1.0)]
    found = jobs.arrays(parts, range(11), ())
    assert found == [
        Array(((0,), (1,)), frozenset()),
        Array(((2,), (3,)), frozenset({0})),
        Array(((5, 6), (9,)), frozenset({0, 1})),
        Array(((4,), (7, 8)), frozenset({2, 3})),
        Array(((10,),), frozenset(range(10))),
    ]


def test_what_is_done_is_not_waited_for_and_what_others_do_is():
    parts = [part(), part([0]), part([0]), part([1, 2], "distances")]
    assert jobs.arrays(parts, [2, 3], [1]) == [
        Array(((2,),), frozenset()),
        Array(((3,),), frozenset({1, 2})),
    ]
    assert jobs.arrays(parts, [], []) == []


def test_a_job_can_do_several_runs():
    parts = [part() for _ in range(5)] + [part([0])]
    found = jobs.arrays(parts, range(6), (), runs=2)
    assert [array.jobs for array in found] == [((0, 1), (2, 3), (4,)), ((5,),)]


@given(st.integers(1, 60), st.integers(1, 7))
def test_arrays_are_split_at_the_limit(count, most):
    array = Array(tuple((n,) for n in range(count)), frozenset({99}))
    found = jobs.split(array, most)
    assert sum((one.jobs for one in found), ()) == array.jobs
    assert all(len(one.jobs) <= most and one.needs == array.needs for one in found)


@pytest.mark.parametrize("runs", [1, 3])
def test_each_part_of_a_study_is_in_one_job_after_what_it_needs(runs):
    pytest.importorskip("sklearn", reason="the tiny study trains on scikit-learn's digits")
    tasks = workdir.tasks(tiny_study(arms=("C-T",), replicates=3), Path("w"))
    parts = graph.parts(tasks)
    seen = set()
    for array in jobs.arrays(parts, range(len(parts)), (), runs=runs):
        assert array.needs <= seen
        for job in array.jobs:
            assert array.needs == frozenset().union(*(parts[n].needs for n in job))
            assert not seen & set(job)
        seen.update(n for job in array.jobs for n in job)
    assert seen == set(range(len(parts)))
