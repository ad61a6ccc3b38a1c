import io
from pathlib import Path
from typing import get_args

import pytest

from tests.studies.tiny import tiny_study
from tlx.analyses.features.similarity.cka_matrix import Spatial
from tlx.studies import agenda, axes, plan
from tlx.studies.progress import Progress
from tlx.studies.spec import QUESTIONS, SPATIAL
from tlx.train import serial

ROOT = Path("w")


def test_runs_of_a_study():
    runs = plan.runs(tiny_study(partial=()), ROOT)
    assert [run.name for run in runs] == [
        "P",
        "P-T 1",
        "RI-T 1",
        "P-T 2",
        "RI-T 2",
        "P-T 1 block:4",
        "RI-T 1 block:4",
        "P-T 2 block:4",
        "RI-T 2 block:4",
    ]
    assert runs[5].workdir == ROOT / "runs" / "p-t_1_block_4"
    assert runs[5].shuffle == "block:4"
    for run in runs[1:]:
        start = run.spec.init_from
        assert (start is None) == (run.kind == "RI-T")
        assert start is None or start.workdir == str(runs[0].workdir)
    seeds = [run.spec.seed for run in runs if run.kind == "RI-T"]
    assert seeds == [0, 1000, 0, 1000]
    assert len({serial.digest(run.spec) for run in runs}) == len(runs)


def test_pairs_of_a_study():
    runs = plan.runs(tiny_study(partial=()), ROOT)
    names = [(p.a.name, p.b.name) for p in plan.target_pairs(runs) + plan.source_pairs(runs)]
    assert names == [
        ("P-T 1", "P-T 2"),
        ("P-T 1", "RI-T 1"),
        ("RI-T 1", "RI-T 2"),
        ("P-T 1", "P"),
        ("RI-T 1", "P"),
    ]


def test_pairs_on_shuffled_targets():
    runs = plan.runs(tiny_study(shuffles=("block:4", "block:2")), ROOT)
    names = [(p.a.name, p.b.name) for p in plan.shuffled_pairs(runs)]
    assert names == [
        ("P-T 1 block:2", "P-T 2 block:2"),
        ("RI-T 1 block:2", "RI-T 2 block:2"),
        ("P-T 1 block:2", "RI-T 1 block:2"),
        ("P-T 1 block:2", "P"),
        ("P-T 1 block:4", "P-T 2 block:4"),
        ("RI-T 1 block:4", "RI-T 2 block:4"),
        ("P-T 1 block:4", "RI-T 1 block:4"),
        ("P-T 1 block:4", "P"),
    ]
    assert plan.shuffled_pairs(plan.runs(tiny_study(shuffles=()), ROOT)) == []


def test_pairs_and_corners_of_the_landscape():
    runs = plan.runs(tiny_study(partial=()), ROOT)
    every = {(p.a.name, p.b.name) for p in plan.all_target_pairs(runs)}
    assert len(every) == 6
    assert ("P-T 2", "RI-T 1") in every
    assert [run.name for run in plan.corners(runs)] == ["P-T 1", "P-T 2", "RI-T 1"]
    assert [(p.a.name, p.b.name) for p in plan.kin(runs)] == [
        ("P-T 1", "P-T 2"),
        ("RI-T 1", "RI-T 2"),
    ]


def test_runs_along_the_axes():
    spec = tiny_study(
        shuffles=("block:2", "pixel", "channel_block:2"), train_sizes=(50, 20),
        targets=("mnist5k",),
        init_steps=(2, 0), rates=(0.01, 0.05), replicates=2, partial=(),
    )  # fmt: skip
    assert spec.problems() == []
    runs = plan.runs(spec, ROOT)
    assert len({run.workdir for run in runs}) == len(runs)
    assert len({serial.digest(run.spec) for run in runs}) == len(runs)
    swept = {axis: plan.sweep(spec, runs, axis) for axis in axes.NAMES}
    assert {axis: list(cells) for axis, cells in swept.items()} == {
        "shuffle": ["pixel", "channel_block:2", "block:2", "none"],
        "train_size": ["20", "40", "50"],
        "target": ["digits", "mnist5k"],
        "init_step": ["0", "2", "4"],
    }
    for axis, cells in swept.items():
        for own in cells.values():
            rates = sorted((r.kind, r.replicate, r.spec.optim.rate) for r in own)
            both = [(kind, i, rate) for kind in axes.KINDS[axis] for i in (1, 2)
                    for rate in (0.01, 0.05)]  # fmt: skip
            assert rates == both
    (run,) = (r for r in swept["init_step"]["2"] if r.name == "P-T 2 init_step:2 rate:0.05")
    assert (run.spec.init_from.step, run.spec.seed, run.is_further_rate) == (2, 1000, True)
    (run,) = (r for r in swept["target"]["mnist5k"] if r.name == "RI-T 1 target:mnist5k")
    assert (run.spec.data.name, run.spec.optim.rate, run.cell) == (
        "mnist5k", 0.05, "target:mnist5k",
    )  # fmt: skip
    (run,) = (r for r in swept["train_size"]["20"] if r.name == "P-T 1 train_size:20")
    assert run.spec.data.train_size == 20
    # what compares pairs is asked of the plain runs and the shuffled ones at their own rates
    pairs = [*plan.all_target_pairs(runs), *plan.source_pairs(runs), *plan.shuffled_pairs(runs)]
    asked = [run for pair in pairs for run in pair]
    assert asked
    assert not [run for run in asked if run.is_further_rate or run.axis not in ("", "shuffle")]


def test_a_study_asks_the_questions_it_names():
    every = tiny_study(init_steps=(0,), targets=("mnist5k",))
    names = [group.name for group in agenda.groups(every, plan.runs(every, ROOT))]
    assert names == ["learning curves", *QUESTIONS, "the study"]
    one = tiny_study(questions=("mistakes", "sweeps"), replicates=1)
    assert one.problems() == []
    names = [group.name for group in agenda.groups(one, plan.runs(one, ROOT))]
    assert names == ["learning curves", "sweeps", "mistakes", "the study"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plane_points": 1}, "plane_points: expected at least 2, got 1"),
        ({"basin_draws": 1}, "basin_draws: expected at least 2, got 1"),
        ({"basin_noise": (0.2, 0.1)}, "basin_noise: expected numbers that increase from 0"),
        ({"basin_noise": ()}, "basin_noise: expected numbers that increase from 0"),
        ({"basin_tolerance": -1.0}, "basin_tolerance: expected at least 0, got -1.0"),
        ({"similarity_resamples": -1}, "similarity_resamples: expected at least 0, got -1"),
        ({"similarity_spatial": "pol"}, "similarity_spatial: unknown way with positions 'pol'; "
         "did you mean 'pool'?"),
        ({"similarity_spatial": "positions"}, "similarity_resamples: expected 0 with "
         "similarity_spatial 'positions'"),
        ({"shuffles": ("block:4", "block:4")}, "shuffles: expected each once, and not 'none'"),
        ({"shuffles": ("none",)}, "shuffles: expected each once, and not 'none'"),
        ({"shuffles": ("block:3",)}, "shuffles: shuffle: expected a block size that divides"),
        ({"train_sizes": (40,)}, "train_sizes: expected each once, and not 40"),
        ({"train_sizes": (2000,)}, "train_sizes: expected train_size and valid_size of at most"),
        ({"targets": ("digits",)}, "targets: expected each once, and not 'digits'"),
        ({"targets": ("digit",)}, "targets: name: unknown source 'digit'; did you mean 'digits'"),
        ({"rates": (0.1, 0.0)}, "rates: expected numbers above 0, got (0.1, 0.0)"),
        ({"rates": (0.01,)}, "rates: expected both of the rates of finetune and scratch among"),
        ({"init_steps": (3,)}, "init_steps: expected steps before the last that "
         "pretrain.checkpoint keeps, each once: some of [0, 1, 2], got (3,)"),
        ({"init_steps": (4,)}, "init_steps: expected steps before the last"),
        ({"init_steps": (1, 1)}, "init_steps: expected steps before the last"),
        ({"init_steps": (1,), "init_step": 2}, "init_steps: expected init_step 'last'"),
        ({"questions": ("swept",)}, "questions: unknown question 'swept'; did you mean 'sweeps'"),
        ({"replicates": 1}, "replicates: expected at least 2, since basins, criticality, "),
    ],
)  # fmt: skip
def test_problems_of_the_questions_are_told(changes, message):
    (problem,) = tiny_study(**changes).problems()
    assert problem.startswith(message)


def test_the_ways_with_positions_are_those_of_the_analysis():
    assert get_args(Spatial) == SPATIAL


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    def __init__(self):
        self.time = 0.0

    def __call__(self):
        return self.time


def told(out, seconds):
    """Two tasks of weights 4 and 6; the first takes `seconds` a part, the second is done."""
    clock = Clock()
    progress = Progress(10, out, now=clock)
    progress.start("one", 4)
    clock.time += 100  # compilation, which does not count
    progress.part(0.25, "step 1 of 4")
    for step in (2, 3):
        clock.time += seconds
        progress.part(step / 4, f"step {step} of 4")
    clock.time += seconds
    progress.finish("accuracy 0.9")
    progress.start("two", 6)
    progress.finish(worked=False)
    return out.getvalue()


def test_progress_without_a_terminal():
    assert told(io.StringIO(), 20).splitlines() == [
        "[ 10%] one  step 1 of 4  (time left: not known yet)",
        "[ 20%] one  step 2 of 4  (about 2 min 40 s left)",
        "[ 30%] one  step 3 of 4  (about 2 min 20 s left)",
        "[ 40%]  160.0 s  one  accuracy 0.9  (about 2 min 00 s left)",
        "[100%]     done  two",
    ]


def test_quiet_where_parts_are_quick():
    assert len(told(io.StringIO(), 1).splitlines()) == 3


def test_progress_on_a_terminal_rewrites_its_line():
    text = told(Terminal(), 20)
    assert text.count("\r\x1b[K") == 7
    assert text.count("\n") == 2
