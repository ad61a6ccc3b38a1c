"""The runs of a study, and which of them are compared."""

from pathlib import Path

from tests.studies.tiny import tiny_study
from tlx.studies import axes, plan
from tlx.studies.axes import Axes
from tlx.train.spec import digest

ROOT = Path("w")


def test_runs_of_a_study():
    runs = plan.make(tiny_study(partial=()), ROOT).runs
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
    assert len({digest(run.spec) for run in runs}) == len(runs)


def test_pairs_of_a_study():
    planned = plan.make(tiny_study(partial=()), ROOT)
    names = [(p.a.name, p.b.name) for p in planned.target_pairs() + planned.source_pairs()]
    assert names == [
        ("P-T 1", "P-T 2"),
        ("P-T 1", "RI-T 1"),
        ("RI-T 1", "RI-T 2"),
        ("P-T 1", "P"),
        ("RI-T 1", "P"),
    ]


def test_pairs_on_shuffled_targets():
    planned = plan.make(tiny_study(axes=Axes(shuffle=("block:4", "block:2"))), ROOT)
    names = [(p.a.name, p.b.name) for p in planned.shuffled_pairs()]
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
    assert plan.make(tiny_study(axes=Axes()), ROOT).shuffled_pairs() == []


def test_pairs_and_corners_of_the_landscape():
    planned = plan.make(tiny_study(partial=()), ROOT)
    every = {(p.a.name, p.b.name) for p in planned.all_target_pairs()}
    assert len(every) == 6
    assert ("P-T 2", "RI-T 1") in every
    assert [run.name for run in planned.plane_corners()] == ["P-T 1", "P-T 2", "RI-T 1"]
    assert [(p.a.name, p.b.name) for p in planned.recipe_pairs()] == [
        ("P-T 1", "P-T 2"),
        ("RI-T 1", "RI-T 2"),
    ]


def test_runs_along_the_axes():
    spec = tiny_study(
        axes=Axes(
            shuffle=("block:2", "pixel", "channel_block:2"),
            train_size=(50, 20),
            target=("mnist5k",),
            init_step=(2, 0),
        ),
        rates=(0.01, 0.05),
        replicates=2,
        partial=(),
    )
    assert spec.problems() == []
    planned = plan.make(spec, ROOT)
    runs = planned.runs
    assert len({run.workdir for run in runs}) == len(runs)
    assert len({digest(run.spec) for run in runs}) == len(runs)
    swept = {axis: of_axis.cells for axis, of_axis in planned.swept.items()}
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
    pairs = [*planned.all_target_pairs(), *planned.source_pairs(), *planned.shuffled_pairs()]
    asked = [run for pair in pairs for run in pair]
    assert asked
    assert not [run for run in asked if run.is_further_rate or run.axis not in ("", "shuffle")]
