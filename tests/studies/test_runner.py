import io
import json
import re

import numpy as np
import pytest

from tests.studies.tiny import tiny_study
from tlx import cli, records
from tlx.core import evaluation
from tlx.studies import questions, runner
from tlx.studies.cka import EVIDENCE
from tlx.studies.progress import Progress

pytest.importorskip("sklearn", reason="the tiny study trains on scikit-learn's digits")

MODULES = ["stem", "stage1_block1", "stage2_block1", "pooled", "head"]


class Stopping(Progress):
    """Raises, as Ctrl-C would, when a task begins."""

    def __init__(self, at):
        super().__init__(1.0, io.StringIO())
        self.at = at

    def start(self, name, weight):
        if name == self.at:
            raise KeyboardInterrupt
        super().start(name, weight)


def times(folder):
    """When each file was written, but for the marks of what is under way."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.parent.name != "parts")
    return {path: path.stat().st_mtime_ns for path in files}


STUDY = tiny_study(arms=("S-T",), forks=(1,))


def by_time(*_):
    raise AssertionError("a width that was chosen by time changes the roundings of a record")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A study that was stopped twice, and then done; on CPU without choices by time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "_auto_width", by_time)
        return finished(tmp_path_factory.mktemp("study"))


def finished(workdir):
    for at in ("train P-T 2", "similarity"):
        with pytest.raises(KeyboardInterrupt):
            runner.run(STUDY, workdir, progress=Stopping(at))
        before = times(workdir)
    result = runner.run(STUDY, workdir, progress=Stopping(None))
    assert {path: times(workdir)[path] for path in before} == before  # nothing done again
    return result


def test_every_question_is_answered(done):
    found = records.query(done.records)
    counts = {q: sum(r.question == q for r in found) for q in {r.question for r in found}}
    assert counts == {
        "learning_curve": 18,
        "mean_learning_curves": 1,
        "sweep": 1,
        "mistakes": 1,
        "interpolation": 5,
        "checkpoint_interpolation": 15,
        "plane": 1,
        "basin": 3,
        "permutation": 1,
        "instability": 4,
        "similarity": 14,
        "similarity_by_step": 3,
        "linear_probes": 5,
        "rewinding": 6,
        "criticality": 9,
        "movement": 6,
        "movement_alignment": 3,
        "spectra": 4,
        "distances": 11,
        "study": 1,
    }


def test_records_agree_with_each_other(done):
    for line in records.query(done.records, "interpolation"):
        for end, run in ((0, line.inputs["a"]), (-1, line.inputs["b"])):
            (curve,) = records.query(done.records, "learning_curve", run=run)
            np.testing.assert_allclose(
                line.results.accuracy[end], curve.results.test_accuracy[-1], atol=1e-6
            )
        assert line.results.num_examples == 300


def test_a_plane_has_the_models_own_numbers(done):
    (plane,) = records.query(done.records, "plane")
    assert plane.results.loss.shape == (3, 3)
    for name, accuracy in zip(plane.inputs["models"], plane.results.model_accuracy, strict=True):
        (curve,) = records.query(done.records, "learning_curve", run=name)
        np.testing.assert_allclose(accuracy, curve.results.test_accuracy[-1], atol=1e-6)


def test_basins_and_permutations_agree_with_the_lines(done):
    for basin in records.query(done.records, "basin"):
        assert basin.results.verdict in ("yes", "no", "open")
        assert basin.results.noise_rise.shape == (2,)
    (permuted,) = records.query(done.records, "permutation")
    ends = {name: permuted.inputs[name] for name in ("a", "b")}
    (line,) = records.query(done.records, "interpolation", **ends)
    assert permuted.variants.tolist() == ["plain", "weights", "activations", "repaired"]
    np.testing.assert_allclose(permuted.loss[0], line.loss, rtol=1e-5)
    assert permuted.distance[1] <= permuted.distance[0]
    assert np.isnan(permuted.distance[3])
    for loss in permuted.loss[1:3]:  # the ends are the same functions
        np.testing.assert_allclose(loss[[0, -1]], line.loss[[0, -1]], rtol=1e-3)


def test_similarities_come_with_their_evidence(done):
    found = records.query(done.records, "similarity")
    kinds = ["P-T / P"] * 2 + ["P-T / P-T"] + ["P-T / RI-T"] * 2 + ["RI-T / RI-T", "S-T / S-T"]
    for shuffle in ("none", "block:4"):
        own = [r for r in found if r.inputs["shuffle"] == shuffle]
        assert sorted(r.inputs["pair"] for r in own) == kinds
    for record in found:
        given, options = record.results, record.key["options"]
        shape = (len(given.layers_a), len(given.layers_b))
        assert {getattr(given, name).shape for name in EVIDENCE} == {shape}
        known = np.isfinite(given.debiased)
        assert known.any()
        assert (given.low <= given.high)[known].all()
        # Batches of 128 rows: chance is far from 0 and from 1.
        assert (given.biased >= given.debiased - 1e-3)[known].all()
        assert (options["spatial"], options["num_resamples"]) == ("flatten", 20)
        assert given.num_examples == 300


def test_rewinding_to_the_last_step_changes_nothing(done):
    for record in records.query(done.records, "rewinding"):
        given = record.results
        assert given.modules.tolist() == MODULES
        assert given.step.tolist() == [0, 1, 2, 4]
        assert (given.accuracy_drop[:, -1] == 0).all()
        assert (given.loss[:, -1] == given.trained_loss).all()
        (curve,) = records.query(done.records, "learning_curve", run=record.inputs["run"])
        np.testing.assert_allclose(
            given.trained_accuracy, curve.results.test_accuracy[-1], atol=1e-6
        )


def test_criticality_on_both_paths_has_the_same_ends(done):
    for kind in ("P-T", "RI-T"):
        direct, way = (
            records.query(done.records, "criticality", kind=kind, path=path)[0]
            for path in ("direct", "optimisation")
        )
        assert direct.results.error.shape == (len(MODULES), 2, 2)
        assert way.results.error.shape == (len(MODULES), 4, 2)
        for end in (0, -1):
            np.testing.assert_allclose(
                direct.results.loss[:, end], way.results.loss[:, end], rtol=1e-5
            )
        (moved,) = records.query(done.records, "movement", run=f"{kind} 1")
        np.testing.assert_allclose(
            way.results.distances.T, moved.results.displacement, rtol=1e-5, atol=1e-7
        )
        (apart,) = records.query(done.records, "learning_curve", run=f"{kind} 1")
        np.testing.assert_allclose(
            direct.results.trained_error, 1 - apart.results.train_accuracy[-1], atol=1e-6
        )


def test_layers_are_measured_for_each_kind(done):
    probes = records.query(done.records, "linear_probes")
    assert sorted(r.inputs["kind"] for r in probes) == ["P", "P-T", "RI", "RI-T", "S-T"]
    for record in probes:
        given = record.results
        assert (given.low <= given.accuracy).all()
        assert (given.accuracy <= given.high).all()
        assert (given.num_train, given.num_examples) == (40, 300)
    for record in records.query(done.records, "spectra"):
        given = record.results
        assert given.layers[0] == "stem/conv"
        np.testing.assert_array_equal(given.singular_values[:, 0], given.spectral_norm[-1])
        assert (np.diff(given.singular_values) <= 0).all()


def test_a_partial_transfer_is_a_run_of_its_own_kind(done):
    (curve,) = records.query(done.records, "learning_curve", part="first:1:frozen")
    assert (curve.inputs["run"], curve.inputs["kind"]) == ("P-T first:1:frozen", "P-T part")


def test_a_trajectory_ends_where_the_runs_similarity_is(done):
    for kind in ("P-T", "RI-T"):
        (path,) = records.query(done.records, "similarity_by_step", kind_a=kind)
        assert path.results.step.tolist() == [0, 1, 2, 4]
        assert set(path.key["data"]["checkpoints"]) == {"0", "1", "2", "4"}
        assert path.results.debiased.shape == (4, len(path.results.layers))
        assert path.inputs["b"] == "P"
    (path,) = records.query(done.records, "similarity_by_step", kind_a="P-T")
    (end,) = records.query(done.records, "similarity", a="P-T 1", b="P")
    for name in EVIDENCE:
        np.testing.assert_allclose(
            getattr(path, name)[-1], np.diagonal(getattr(end, name)), rtol=1e-5, atol=1e-6
        )
    body = [n != "logits" for n in path.results.layers]
    np.testing.assert_allclose(path.results.debiased[0][body], 1, atol=1e-5)  # P's own weights


def test_totals_leave_the_head_out(done):
    for record in records.query(done.records, "distances"):
        names = list(record.results.modules)
        assert ("head" in names) == ("P" not in (record.inputs["kind_a"], record.inputs["kind_b"]))
        body = [l2 for name, l2 in zip(names, record.results.l2, strict=True) if name != "head"]
        np.testing.assert_allclose(record.results.total_l2, np.linalg.norm(body), rtol=1e-5)


def test_the_page_is_there(done):
    text = done.page.read_text()
    assert "<h1>A tiny study</h1>" in text
    assert "<svg" in text
    assert '<th scope="col">S-T</th>' in text


def test_copies_are_compared_with_their_run(done):
    for kind in ("P-T", "RI-T"):
        for i in (1, 2):
            (found,) = records.query(done.records, "instability", run=f"{kind} {i}")
            assert found.step.tolist() == [1]
            assert (found.distance > 0).all()
            assert (found.accuracy_barrier_low <= found.accuracy_barrier_high).all()
            run, copy = (
                records.query(done.records, "learning_curve", run=name)[0]
                for name in (f"{kind} {i}", f"{kind} {i} fork:1")
            )
            assert run.test_loss[0] == copy.test_loss[0]
            assert run.test_loss[-1] != copy.test_loss[-1]
            far = records.query(done.records, "distances", pair=f"{kind} / {kind}")[0].total_l2
            if kind == "RI-T":
                assert found.distance[0] < far / 3


def test_what_is_owed_to_features_and_what_to_statistics(done):
    (found,) = records.query(done.records, "sweep", axis="shuffle")
    assert found.kinds.tolist() == ["P-T", "RI-T", "S-T"]
    assert found.contrasts.tolist() == ["P-T − S-T", "S-T − RI-T"]
    p_t, ri_t, s_t = found.final_mean
    np.testing.assert_allclose(found.contrast, [p_t - s_t, s_t - ri_t], atol=1e-12)
    np.testing.assert_allclose(found.contrast.sum(0), found.difference, atol=1e-12)
    np.testing.assert_allclose(found.contrast_speed.sum(0), found.speed, atol=1e-12)
    np.testing.assert_allclose(found.contrast_drop[0], 100 * (p_t - s_t) / p_t, rtol=1e-6)
    assert (found.contrast_low <= found.contrast).all()
    assert (found.contrast <= found.contrast_high).all()


def test_a_second_run_writes_nothing_but_the_page(done):
    workdir = done.page.parent
    before = times(workdir)
    runner.run(STUDY, workdir, progress=Stopping(None))
    after = times(workdir)
    assert {path for path in after if after[path] != before.get(path)} == {done.page}


def test_a_workdir_of_another_study(done, tmp_path):
    other = tiny_study(interpolation=questions.Interpolation(num_alphas=7), replicates=3)
    message = "interpolation.num_alphas: 5 there, 7 here"
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        runner.run(other, done.page.parent)
    assert "replicates: 2 there, 3 here" in str(error.value)
    older = json.loads((done.page.parent / "study.json").read_text())
    del older["finetune"]["accumulate"]  # as before there was such a thing
    (tmp_path / "study.json").write_text(json.dumps(older))
    with pytest.raises(ValueError, match="another config") as error:
        runner.run(other, tmp_path)
    assert "accumulate" not in str(error.value)


def test_redraw_needs_a_study(tmp_path):
    with pytest.raises(ValueError, match="expected the workdir of a study"):
        runner.redraw(tmp_path)


def test_several_studies_are_reported_side_by_side(done, tmp_path, capsys):
    workdir = done.page.parent
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.json").write_bytes((workdir / "study.json").read_bytes())
        (tmp_path / name / "records").symlink_to(workdir / "records")
    folders = [str(tmp_path / name) for name in ("one", "other")]
    assert cli.main(["report", "--workdir", *folders]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["95%", "intervals", "one", "other"]
    assert lines[-2:] == [f"{folder}/report.html" for folder in folders]
    assert any(line.startswith("no barrier between two P-T  ") for line in lines)
    assert cli.main(["report", "--workdir", str(workdir)]) == 0
    assert capsys.readouterr().out == f"{done.page}\n"


def test_the_cost_of_a_module_has_an_interval(done):
    (cell,) = records.query(done.records, "rewinding", run="P-T 1")
    assert cell.accuracy_drop_low.shape == cell.accuracy_drop.shape
    assert (cell.accuracy_drop_low <= cell.accuracy_drop).all()
    assert (cell.accuracy_drop <= cell.accuracy_drop_high).all()
    assert (cell.accuracy_drop_low < cell.accuracy_drop_high).all()
