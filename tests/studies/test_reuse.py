"""A study that trains along every axis and asks only what concerns them."""

import dataclasses

import numpy as np
import pytest

from tests.studies.tiny import tiny_run, tiny_study
from tests.train.tiny import make_spec
from tlx import records
from tlx.analyses.function import inference, learning
from tlx.studies import plan, runner
from tlx.studies.axes import Axes
from tlx.train import metrics_log
from tlx.train.spec import ModelSpec, OptimSpec

pytest.importorskip("sklearn", reason="the tiny study trains on scikit-learn's digits")

QUESTIONS = ("sweep", "checkpoints", "transferability", "domains", "mistakes")


def run(name, rate=0.2, **changes):
    """One that learns something in 24 steps."""
    options = {"width": 8, "stage_sizes": (1, 1), "stem": "small"}
    model = ModelSpec(name="resnet", options=options)
    optim = OptimSpec(rate=rate, grad_clip=1.0)
    given = {"model": model, "optim": optim, "num_steps": 24, "eval_every": 8}
    return tiny_run(name, **{**given, **changes})


def study(**changes):
    given = {
        "questions": QUESTIONS,
        "pretrain": run("P", seed=7),
        "finetune": run("P-T", rate=0.1),
        "scratch": run("RI-T"),
        "replicates": 2,
        "axes": Axes(shuffle=("block:4",), train_size=(20,), target=("mnist5k",), init_step=(0, 8)),
        "partial": (),
    }
    return tiny_study(**{**given, **changes})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("reuse")
    return study(), workdir, runner.run(study(), workdir).records


def sweep(done, axis):
    (found,) = records.query(done[2], "sweep", axis=axis)
    return found.results


def runs_of(done, axis, value, kind, rate):
    spec, workdir, _ = done
    own = plan.make(spec, workdir).swept[axis].cells[value]
    return [run for run in own if (run.kind, run.spec.optim.rate) == (kind, rate)]


def last(run, split):
    return [line for line in metrics_log.read(run.workdir) if line["split"] == split][-1]


def test_every_question_is_answered(done):
    found = records.query(done[2])
    counts = {q: sum(r.question == q for r in found) for q in {r.question for r in found}}
    # P, and 4 values with two kinds and 2 with one, from two seeds each
    assert counts == {
        "learning_curve": 1 + 4 * 4 + 2 * 2,
        "mean_learning_curves": 1,
        "sweep": 4,
        "checkpoints": 1,
        "transferability": 1,
        "domains": 1,
        "mistakes": 1,
        "study": 1,
    }


@pytest.mark.parametrize("axis", ["shuffle", "train_size", "target", "init_step"])
def test_a_sweep_has_the_numbers_of_its_runs(done, axis):
    got = sweep(done, axis)
    for k, kind in enumerate(got.kinds):
        for c, value in enumerate(got.values):
            for r, rate in enumerate(got.rates[k]):
                own = runs_of(done, axis, str(value), str(kind), float(rate))
                finals = [last(run, "test")["accuracy"] for run in own]
                np.testing.assert_allclose(got.final[k, c, r], finals, atol=1e-7)
                assert last(own[0], "test")["count"] == got.num_examples[c]
                assert last(own[0], "train")["count"] == got.train_size[c]
            chosen = got.chosen[k, c]
            means = got.final[k, c].mean(-1)
            assert means[chosen] == means.max()
            np.testing.assert_allclose(got.final_mean[k, c], means[chosen], atol=1e-7)
            expected = inference.mean_over_seeds(got.average[k, c, chosen])
            assert got.average_low[k, c] == expected.low
    assert np.isnan(got.valid).all()
    assert got.chosen_on == ""  # one rate
    np.testing.assert_array_equal(got.difference_p_holm, inference.holm(got.difference_p))


def test_differences_are_of_the_chosen_rates(done):
    got = sweep(done, "shuffle")
    assert got.values.tolist() == ["block:4", "none"]
    assert got.plain == "none"
    assert got.chance.tolist() == ["seeds and examples"] * 2
    for c in range(2):
        at = [got.final[k, c, got.chosen[k, c]].mean() for k in range(2)]
        np.testing.assert_allclose(got.difference[c], at[0] - at[1], atol=1e-7)
        np.testing.assert_allclose(got.drop[c], 100 * (1 - at[1] / at[0]), rtol=1e-5)
        speeds = [got.average[k, c, got.chosen[k, c]] for k in range(2)]
        expected = inference.difference(*speeds, paired=False)
        assert (got.speed[c], got.speed_low[c]) == (expected.value, expected.low)
    assert (got.difference_low < got.difference).all()


def test_speeds_are_those_of_the_curves(done):
    got = sweep(done, "train_size")
    assert got.plain == "40"
    run, _ = runs_of(done, "train_size", "20", "RI-T", 0.2)
    lines = metrics_log.read(run.workdir)
    step, test = ([x[name] for x in lines if x["split"] == "test"] for name in ("step", "accuracy"))
    train = [x["accuracy"] for x in lines if x["split"] == "train"]
    at = (1, 0, got.rates[1].tolist().index(0.2), 0)
    assert got.average[at] == learning.average(step, train)
    assert got.area[at] == learning.area_under(step, test)
    assert got.steps_to[at] == learning.steps_to(step, test, got.reach[0])
    assert got.best[at] == max(test)


def test_starts_are_compared_with_the_last_checkpoint(done):
    got = sweep(done, "init_step")
    assert got.values.tolist() == ["0", "8", "24"]
    best = [got.final[0, c, got.chosen[0, c]].mean() for c in range(3)]
    np.testing.assert_allclose(got.difference[:2], [best[2] - best[0], best[2] - best[1]],
                               atol=1e-7)  # fmt: skip
    assert np.isnan(got.difference[2])
    good = [low <= 0 for low in got.difference_low[:2]]
    assert got.earliest == (0 if all(good) else 8 if good[1] else -1)
    (kept,) = records.query(done[2], "checkpoints")
    (curve,) = records.query(done[2], "learning_curve", run="P")
    at = [curve.results.step.tolist().index(step) for step in (0, 8, 24)]
    np.testing.assert_allclose(kept.results.accuracy, curve.results.test_accuracy[at], atol=1e-6)
    assert kept.results.barrier[-1] == 0
    assert kept.results.verdict[-1] == "yes"


def test_scores_rank_the_starts(done):
    (found,) = records.query(done[2], "transferability")
    got, starts = found.results, sweep(done, "init_step")
    assert got.score.shape == (len(got.scores), 3)
    np.testing.assert_allclose(got.measured, starts.final_mean[0], atol=1e-7)
    assert np.isfinite(got.score).all()
    assert got.num_examples == 40


def test_domains_are_further_than_the_source_is_from_itself(done):
    (found,) = records.query(done[2], "domains")
    assert found.results.targets.tolist() == ["digits", "mnist5k"]
    assert found.results.source == "digits"
    same, other = found.results.distance
    assert same < 1e-6  # the tiny source is the target: the same test images
    assert other > found.results.floor > 0


def test_mistakes_come_with_images(done):
    (found,) = records.query(done[2], "mistakes")
    got = found.results
    assert got.models.tolist() == ["P-T 1", "P-T 2", "RI-T 1", "RI-T 2"]
    for name, accuracy in zip(got.models, got.accuracy, strict=True):
        (curve,) = records.query(done[2], "learning_curve", run=str(name))
        np.testing.assert_allclose(accuracy, curve.results.test_accuracy[-1], atol=1e-6)
    there = got.gallery_index >= 0
    assert there.any()
    assert (got.gallery_images.max((2, 3, 4)) > 0).tolist() == there.tolist()
    totals = got.cells[0, 2][[2, 1, 3]]  # only the first, only the second, both
    np.testing.assert_array_equal(got.gallery_total, totals)
    label, answer = got.gallery_label[..., None], got.gallery_answer
    wrong = np.array([[True, False], [False, True], [True, True]])[:, None]
    np.testing.assert_array_equal(
        (answer != label)[there], np.broadcast_to(wrong, answer.shape)[there]
    )


def test_validation_images_choose_the_rate(tmp_path):
    base = study(
        questions=("sweep",),
        axes=Axes(shuffle=("block:4",)),
        replicates=1,
        rates=(0.1, 0.2),
    )
    data = {"train_size": 40, "valid_size": 30}

    def held_out(run):
        return dataclasses.replace(run, data=dataclasses.replace(run.data, **data))

    spec = dataclasses.replace(
        base, finetune=held_out(base.finetune), scratch=held_out(base.scratch)
    )
    found = runner.run(spec, tmp_path).records
    (record,) = records.query(found, "sweep", axis="shuffle")
    got = record.results
    assert record.key["options"]["selected_on"] == got.chosen_on == "valid"
    np.testing.assert_array_equal(got.chosen, got.valid.mean(-1).argmax(-1))
    assert np.isnan(got.final_low).all()  # one seed
    assert np.isnan(got.speed_low).all()
    assert got.chance.tolist() == ["examples"] * 2
    (curves,) = records.query(found, "mean_learning_curves")
    best, chosen = curves.results.best, curves.results.selected
    assert (best >= chosen).all()
    np.testing.assert_allclose(curves.results.optimism, (best - chosen).mean(-1))
    assert curves.results.num_valid == 30


def test_several_labels_an_image(tmp_path):
    def several(name):
        given = {
            "loss": "multilabel",
            "data": {"name": "tiny_multi", "shuffle_seed": 1244},
            "num_steps": 16,
        }
        return dataclasses.replace(make_spec(**given, eval_every=8), name=name, kind=name)

    spec = tiny_study(
        pretrain=several("P"), finetune=several("P-T"), scratch=several("RI-T"),
        questions=("sweep", "mistakes"), replicates=1, partial=(),
    )  # fmt: skip
    found = runner.run(spec, tmp_path)
    (record,) = records.query(found.records, "mistakes")
    got = record.results
    assert got.is_multilabel
    assert record.key["options"]["threshold"] == 0.5
    assert got.cells.sum(-1).tolist() == [[90, 90], [90, 90]]  # 30 images, 3 labels each
    there = got.gallery_index >= 0
    assert set(got.gallery_judgement[there]) <= {0, 1, 2}
    assert set(np.unique(got.gallery_label)) <= {0, 1}
    (record,) = records.query(found.records, "sweep")
    np.testing.assert_allclose(
        record.results.final_mean[:, -1], got.accuracy, atol=1e-6
    )  # the share of labels that are right
    assert "Do they make the same mistakes?" in found.page.read_text()
