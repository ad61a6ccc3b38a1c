"""A record is found again only for the same weights, the same data and the same question."""

import dataclasses
import logging
import shutil

import numpy as np
import pytest

from tests.studies.tiny import tiny_study
from tests.train.test_identity import add, make_folder, on
from tests.train.test_loop import run
from tlx import records
from tlx.studies import question, runner
from tlx.studies.axes import Axes
from tlx.studies.questions import Interpolation
from tlx.studies.runs import Pair, Run

pytest.importorskip("PIL.Image")


def runs_on(folder, workdir, seeds=(0, 1)):
    made = []
    for seed in seeds:
        spec = on(folder, name=f"RI-T {seed}", kind="RI-T", seed=seed)
        made.append(Run(spec.name, "RI-T", seed, workdir / f"run{seed}", spec))
        run(spec, made[-1].workdir)
    return made


def ask(root, runs, num_alphas=3):
    return question.ask(root, "interpolation", Interpolation(num_alphas=num_alphas), Pair(*runs))


def losses(record):
    return record.results.loss.tolist()


@pytest.fixture
def asked(tmp_path):
    """Two runs on a folder, and the line between them, which is found when it is asked again."""
    runs = runs_on(make_folder(tmp_path / "data"), tmp_path)
    record, computed = ask(tmp_path / "records", runs)
    assert computed
    again, computed = ask(tmp_path / "records", runs)
    assert (losses(again), computed) == (losses(record), False)
    assert again.key["version"] == Interpolation.version
    return tmp_path / "records", runs, record


def told(caplog):
    return [
        r.getMessage() for r in caplog.records if (r.name, r.levelno) == ("tlx", logging.WARNING)
    ]


def test_a_question_whose_answer_was_corrected_is_answered_anew(asked, monkeypatch, caplog):
    root, runs, old = asked
    monkeypatch.setattr(Interpolation, "version", 2)
    new, computed = ask(root, runs)
    assert (computed, new.key["version"]) == (True, 2)
    (text,) = told(caplog)
    assert text.startswith("interpolation (a RI-T 0, b RI-T 1, ")
    assert text.endswith(") is answered anew, since its record differs: version: 1 there, 2 here")
    (left,) = records.query(root, "interpolation")  # what is drawn is the new answer alone
    assert left.key["version"] == 2
    aside = root / "interpolation/outdated"
    (kept,) = {file.stem for file in aside.iterdir()}
    assert records.load(aside / kept).key == old.key


def test_a_record_without_a_version_is_not_found(asked, caplog):
    root, runs, old = asked
    for file in (root / "interpolation").glob("*"):
        file.unlink()
    key = {name: old.key[name] for name in ("options", "inputs", "data")}
    records.save(
        root, records.make_record("interpolation", results=old.results._replace(loss=[9.0]), **key)
    )
    new, computed = ask(root, runs)
    assert (losses(new), computed) == (losses(old), True)
    assert told(caplog)[0].endswith("version: absent there, 1 here")
    assert len(records.query(root, "interpolation")) == 1


@pytest.mark.parametrize(("split", "where"), [("train", "cat/0.png"), ("test", "dog/1.png")])
def test_data_that_changed_under_their_names(split, where, asked, tmp_path, caplog):
    root, runs, old = asked
    add(tmp_path / "data" / split / where, 120)
    new, computed = ask(root, runs)
    assert computed
    assert (losses(new) != losses(old)) == (split == "test")  # the net has no batch statistics
    assert losses(new) == losses(ask(tmp_path / "fresh", runs)[0])
    (text,) = told(caplog)
    assert f"data.examples.{split}.fingerprint: " in text
    assert "data.a" not in text


def test_a_run_that_was_trained_again(asked, tmp_path, caplog):
    root, runs, old = asked
    for item in runs[1].workdir.iterdir():
        shutil.rmtree(item) if item.is_dir() else item.unlink()
    spec = dataclasses.replace(runs[1].spec, seed=5)
    run(spec, runs[1].workdir)
    runs[1] = runs[1]._replace(spec=spec)
    new, computed = ask(root, runs)  # in the same process: nothing kept by path
    assert computed
    np.testing.assert_allclose(losses(new)[0], losses(old)[0], rtol=1e-6)
    assert losses(new)[1:] != losses(old)[1:]
    (text,) = told(caplog)
    assert "data.b.weights: " in text
    assert "data.a" not in text


def test_what_differs_in_options_alone_is_another_question(asked, caplog):
    root, runs, _ = asked
    _, computed = ask(root, runs, 4)
    assert computed
    assert not told(caplog)
    assert len(records.query(root, "interpolation")) == 2


def test_a_study_in_one_workdir_after_its_data_changed(tmp_path, caplog):
    def study():
        given = on(tmp_path / "data", model={"name": "tiny"}, num_steps=2, eval_every=2)
        return tiny_study(
            **{
                field: dataclasses.replace(given, name=kind, kind=kind)
                for field, kind in (("pretrain", "P"), ("finetune", "P-T"), ("scratch", "RI-T"))
            },
            replicates=1,
            axes=Axes(),
            partial=(),
            questions=("mistakes",),
        )

    def go(workdir):
        found = runner.run(study(), workdir)
        of = records.query(found.records)
        return {r.question + records.canonical_json(r.inputs): r for r in of}

    make_folder(tmp_path / "data")
    first = go(tmp_path / "study")
    shutil.rmtree(tmp_path / "data")
    make_folder(tmp_path / "data", inverted=True)
    with pytest.raises(
        ValueError, match=r"study/runs/p to hold the same run, .*\n  the train data: 12 exam"
    ):
        go(tmp_path / "study")
    shutil.rmtree(tmp_path / "study/runs")
    again, fresh = go(tmp_path / "study"), go(tmp_path / "fresh")
    assert again.keys() == first.keys() == fresh.keys()
    for name, record in again.items():
        assert record.key != first[name].key
        for result, values in record.results._asdict().items():
            if result != "seconds":
                np.testing.assert_array_equal(values, getattr(fresh[name].results, result))
    assert "data.examples.train.fingerprint" in "".join(told(caplog))
