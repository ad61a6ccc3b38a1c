"""What waits for what in a study."""

from pathlib import Path

import pytest

from tests.studies.tiny import tiny_study
from tlx.studies import graph, plan

pytest.importorskip("sklearn", reason="the tiny study trains on scikit-learn's digits")


@pytest.fixture(scope="module")
def tasks():
    spec = tiny_study()
    return graph.tasks(plan.make(spec, Path("w")), spec.asked(), Path("w/records"))


def test_runs_wait_for_the_run_that_they_start_from(tasks):
    needs = {part.name: part.needs for part in graph.parts(tasks)}
    assert tasks[0].name == "train P"
    for name in ("train P", "train RI-T 1", "train RI-T 2 block:4"):
        assert needs[name] == frozenset()
    for name in ("train P-T 1", "train P-T 2 block:4", "train P-T first:1:frozen"):
        assert needs[name] == {0}


def test_the_centre_waits_for_all_runs_that_it_is_the_mean_of():
    spec = tiny_study(arms=("C-T",), replicates=3)
    tasks = graph.tasks(plan.make(spec, Path("w")), {}, Path("w/records"))
    names = [task.name for task in tasks]
    needs = {part.name: {names[i] for i in part.needs} for part in graph.parts(tasks)}
    assert needs["train C-T 2"] == {f"train P-T {i}" for i in (1, 2, 3)}
    assert needs["train C-T 1 block:4"] == {f"train P-T {i} block:4" for i in (1, 2, 3)}


def test_questions_wait_for_the_runs_that_they_are_about(tasks):
    names = [task.name for task in tasks]
    for task, part in zip(tasks, graph.parts(tasks), strict=True):
        waits_for = {names[number] for number in part.needs}
        if task.name == "basin":
            assert waits_for == {f"train {run.name}" for run in task.subject}
        if task.name == "linear_probes":
            assert waits_for == {f"train {run.name}" for run in task.subject[:2]}
        if task.name == "study":
            assert waits_for == {name for name in names if name.startswith("train ")}
        if isinstance(task, graph.Asking):
            assert waits_for


def test_parts_need_earlier_ones_only(tasks):
    assert all(need < i for i, part in enumerate(graph.parts(tasks)) for need in part.needs)


def test_runs_are_found_at_any_depth(tasks):
    runs = [task.run for task in tasks if isinstance(task, graph.Training)]
    nested = {"x": [(runs[0], "word"), {"y": runs[1]}], "z": 3}
    assert list(graph.runs_in(nested)) == runs[:2]
