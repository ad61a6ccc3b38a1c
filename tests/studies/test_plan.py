"""The runs of a study, and which of them are compared."""

import dataclasses
from pathlib import Path

from tests.studies.tiny import tiny_study
from tlx.studies import axes, plan
from tlx.studies.axes import Axes
from tlx.train.spec import ForkSpec, digest

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


def names(pairs):
    return [(p.a.name, p.b.name) for p in pairs]


def test_pairs_of_a_study():
    planned = plan.make(tiny_study(partial=()), ROOT)
    assert names(planned.target_pairs() + planned.source_pairs()) == [
        ("P-T 1", "P-T 2"),
        ("RI-T 1", "RI-T 2"),
        ("P-T 1", "RI-T 1"),
        ("P-T 2", "RI-T 2"),
        ("P-T 1", "P"),
        ("P-T 2", "P"),
        ("RI-T 1", "P"),
        ("RI-T 2", "P"),
    ]


def test_pairs_on_shuffled_targets():
    planned = plan.make(tiny_study(axes=Axes(shuffle=("block:4", "block:2"))), ROOT)
    assert planned.shuffles() == ["block:2", "block:4"]
    shuffle = "block:2"
    assert names(planned.target_pairs(shuffle) + planned.source_pairs("P-T", shuffle=shuffle)) == [
        ("P-T 1 block:2", "P-T 2 block:2"),
        ("RI-T 1 block:2", "RI-T 2 block:2"),
        ("P-T 1 block:2", "RI-T 1 block:2"),
        ("P-T 2 block:2", "RI-T 2 block:2"),
        ("P-T 1 block:2", "P"),
        ("P-T 2 block:2", "P"),
    ]
    assert plan.make(tiny_study(axes=Axes()), ROOT).shuffles() == []


def test_all_pairs_of_the_compared_runs():
    spec = tiny_study(partial=(), arms=("S-T",), replicates=6, most_compared=4)
    planned = plan.make(spec, ROOT)
    assert planned.kinds() == ["P-T", "RI-T", "S-T"]
    assert [run.name for run in planned.firsts()] == ["P-T 1", "RI-T 1", "S-T 1"]
    assert len(planned.each()) == 12
    within = names(planned.recipe_pairs())
    assert len(set(within)) == 3 * 6
    assert ("S-T 3", "S-T 4") in within
    assert len(names(planned.recipe_pairs(most=3))) == 3 * 3
    assert names(planned.mixed_pairs()) == [(f"P-T {i}", f"RI-T {i}") for i in (1, 2, 3, 4)]
    assert [run.name for run in planned.plane_corners()] == ["P-T 1", "P-T 2", "RI-T 1"]


def test_each_replicate_has_its_own_shuffle():
    spec = tiny_study(partial=(), axes=Axes(shuffle=("block:2",)), shuffle_by_seed=True)
    assert spec.problems() == []
    planned = plan.make(spec, ROOT)
    seeds = {run.name: run.spec.data.shuffle_seed for run in planned.runs}
    for kind in ("P-T", "RI-T"):
        assert [seeds[f"{kind} {i} block:2"] for i in (1, 2)] == [1244, 1245]
        assert [seeds[f"{kind} {i}"] for i in (1, 2)] == [1244, 1244]
    assert names(planned.target_pairs("block:2")) == [
        (f"P-T {i} block:2", f"RI-T {i} block:2") for i in (1, 2)
    ]
    assert len(planned.target_pairs()) == 4
    still = tiny_study(axes=Axes(shuffle=("block:4",)), shuffle_by_seed=True, replicates=30)
    assert any("replicate" in problem for problem in still.problems())  # of 4 blocks one stays


def test_copies_of_the_first_three_runs():
    spec = tiny_study(partial=(), arms=("S-T",), replicates=4, forks=(2, 0), rates=(0.2,))
    assert spec.problems() == []
    planned = plan.make(spec, ROOT)
    forked = {run.name: copies for run, copies in planned.forked()}
    assert list(forked) == [f"{kind} {i}" for i in (1, 2, 3) for kind in ("P-T", "RI-T")]
    by_name = {run.name: run for run in planned.runs}
    for name, copies in forked.items():
        assert [copy.name for copy in copies] == [f"{name} fork:0", f"{name} fork:2"]
        for copy, step in zip(copies, (0, 2), strict=True):
            run = by_name[name].spec
            assert copy.spec.fork == ForkSpec(step=step, seed=run.seed + 500)
            assert dataclasses.replace(copy.spec, fork=None, name=name) == run
            assert copy.cell == f"fork:{step}"
    others = [run for pair in planned.target_pairs() for run in pair] + planned.plain()
    assert not [run for run in others if run.axis == "fork"]
    noisy = plan.make(dataclasses.replace(spec, fork_noise=0.1), ROOT)
    for run, (copy, _) in noisy.forked():
        assert copy.spec.fork == ForkSpec(step=0, seed=run.spec.seed, noise=0.1)
    (problem,) = tiny_study(forks=(1,), fork_noise=-1.0).problems()
    assert problem.startswith("fork_noise: expected")
    for forks in ((4,), (-1,), (1, 1)):
        (problem,) = tiny_study(forks=forks).problems()
        assert problem.startswith(
            "forks: expected steps of finetune and scratch, 0 to 3, each once"
        )


def test_the_arm_of_the_centre_starts_from_all_runs_fine_tuned_there():
    spec = tiny_study(partial=(), arms=("C-T",), rates=(0.2,))
    assert spec.problems() == []
    runs = plan.make(spec, ROOT).runs
    by_name = {run.name: run for run in runs}
    for cell in ("", " block:4"):
        tuned = [str(by_name[f"P-T {i}{cell}"].workdir) for i in (1, 2)]
        for i in (1, 2):
            centre, p_t = (by_name[f"{kind} {i}{cell}"].spec for kind in ("C-T", "P-T"))
            start = centre.init_from
            assert [start.workdir, *start.average] == tuned
            assert start.head == "keep"
            changed = dataclasses.replace(
                centre, init_from=p_t.init_from, name=p_t.name, kind="P-T"
            )
            assert changed == p_t
            places = [run.name for run in runs]
            assert places.index(centre.name) > places.index(f"P-T 2{cell}")
    alone = plan.make(tiny_study(partial=(), arms=("C-T",), replicates=1), ROOT)
    (centre,) = alone.of_kind("C-T")
    assert centre.spec.init_from.average == ()


def test_the_arm_of_statistics():
    """S-T is P-T in all but that its weights are drawn."""
    runs = plan.make(tiny_study(partial=(), arms=("S-T",)), ROOT).runs
    by_name = {run.name: run.spec for run in runs}
    for cell in ("", " block:4"):
        for i in (1, 2):
            p_t, s_t = (by_name[f"{kind} {i}{cell}"] for kind in ("P-T", "S-T"))
            assert s_t.init_from.weights == "statistics"
            copied = dataclasses.replace(s_t.init_from, weights="copied")
            changed = dataclasses.replace(s_t, init_from=copied, name=p_t.name, kind="P-T")
            assert changed == p_t
    assert tiny_study(arms=("S-T",)).problems() == []
    (problem,) = tiny_study(arms=("ST",)).problems()
    assert "arms" in problem
    assert "S-T" in problem
    (problem,) = tiny_study(arms=("S-T", "S-T")).problems()
    assert problem.startswith("arms: expected each once")
    (problem,) = tiny_study(most_compared=1).problems()
    assert problem.startswith("most_compared")


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
            both = [(kind, i, rate) for kind in axes.kinds(axis, ()) for i in (1, 2)
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
    pairs = [*planned.target_pairs(), *planned.source_pairs()]
    pairs += [p for shuffle in planned.shuffles() for p in planned.target_pairs(shuffle)]
    asked = [run for pair in pairs for run in pair]
    assert asked
    assert not [run for run in asked if run.is_further_rate or run.axis not in ("", "shuffle")]
