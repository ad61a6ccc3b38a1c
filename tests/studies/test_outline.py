"""What a study will do and what is done, and a first config for one's own images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests.studies.tiny import tiny_study
from tlx import cli, config, records
from tlx.core import tree
from tlx.studies import outline, runner
from tlx.studies import workdir as files
from tlx.studies.axes import Axes
from tlx.studies.spec import StudySpec
from tlx.train import importing

QUESTIONS = ("mistakes", "distances")


def study():
    return tiny_study(questions=QUESTIONS, axes=Axes(), partial=())


def counts(found):
    return {row.name: (row.number, row.done) for row in found}


def test_the_outline_says_what_is_done_and_writes_nothing(tmp_path):
    pytest.importorskip("sklearn")
    workdir = tmp_path / "study"
    before = outline.rows(study(), workdir)
    assert not workdir.exists()
    assert counts(before) == {
        "train P": (1, 0),
        "train P-T": (2, 0),
        "train RI-T": (2, 0),
        "learning_curve": (5, 0),
        "mean_learning_curves": (1, 0),
        "mistakes": (1, 0),
        "distances": (8, 0),
        "study": (1, 0),
        "page": (1, 0),
    }
    assert before[0].steps == 4
    assert before[0].evaluations == 3
    workdir.mkdir()
    for task in files.tasks(study(), workdir)[:3]:  # P and the first of each kind
        task.do(lambda said: None)
    part = outline.rows(study(), workdir)
    assert counts(part)["train P-T"] == counts(part)["train RI-T"] == (2, 1)
    assert counts(part)["mistakes"] == (1, 0)
    runner.run(study(), workdir)
    done = outline.rows(study(), workdir)
    assert all(row.number == row.done and not row.steps for row in done)
    assert "all is done" in outline.text(done, outline.Pace(0.0, 0.0), 2)


def test_the_time_is_that_of_the_steps_and_evaluations_left():
    found = [outline.Row("train P", 3, 1, 100.0, 6.0), outline.Row("mistakes", 1, 1, 0.0, 0.0)]
    pace = outline.Pace(0.5, 10.0)
    assert found[0].seconds(pace) == 110
    text = outline.text(found, pace, 2)
    assert [line.split() for line in text.splitlines()][2] == [
        "train",
        "P",
        "3",
        "1",
        "1",
        "min",
        "50",
        "s",
    ]
    assert "about 55 s by 2 processes, compiling not counted" in text


def test_a_plan_refuses_what_the_study_would(tmp_path, capsys):
    pytest.importorskip("sklearn")
    words = ["study", "--config=configs/mini.py", f"--workdir={tmp_path}", "--plan"]
    for workers in ("-1", "0"):
        assert cli.main([*words, f"--workers={workers}"]) == 1
        assert f"workers: expected at least 1 process, got {workers}" in capsys.readouterr().err
    files.claim(study(), tmp_path)
    before = (tmp_path / files.CONFIG_FILE).read_text()
    assert cli.main(words) == 1
    assert "holds a study with another config; differing:" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [files.CONFIG_FILE]
    assert (tmp_path / files.CONFIG_FILE).read_text() == before


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two folders of small pictures, of stripes and of dots."""
    rng = np.random.default_rng(0)
    for name, classes in (("stripes", ("across", "down")), ("dots", ("few", "many", "none"))):
        for split, number in (("train", 20), ("test", 10)):
            for label, of in enumerate(classes):
                folder = tmp_path / name / split / of
                folder.mkdir(parents=True)
                for i in range(number):
                    picture = rng.integers(0, 90, (10, 9, 3), np.uint8)
                    picture[label :: len(classes)] += 120
                    Image.fromarray(picture).save(folder / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_config_for_ones_own_images_runs_as_it_is(folders, capsys):
    words = ["init", "--data=dots", "--source=stripes", "--minutes=0.1", "--out=mine.py"]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert "mine.py: 60 training and 30 test images of 3 classes, 40 steps a run" in said
    assert "next: tlx study --config=mine.py --workdir=runs/dots" in said
    text = (folders / "mine.py").read_text()
    assert "dots: 60 training and 30 test images of 3 classes (few, many, none)" in text
    spec = config.build(StudySpec, config.load("mine.py"))
    assert spec.problems() == []
    assert (spec.scratch.num_steps, spec.pretrain.num_steps) == (40, 160)
    assert spec.scratch.data.image_size == 8
    pixels = np.asarray(Image.open("dots/train/few/0.png"))
    assert abs(spec.scratch.data.mean[0] - pixels.mean() / 255) < 0.1
    few = ["--config.questions=('mistakes',)", "--config.axes.shuffle=()", "--workers=1"]
    words = ["study", "--config=mine.py", "--workdir=runs/dots", "--config.replicates=2", *few]
    assert cli.main(words) == 0
    found = records.query("runs/dots/records", "mistakes")
    assert len(found) == 1


def test_a_config_from_weights(folders, capsys):
    model = importing.parse_model("fixup_resnet,width=2,stage_sizes=(1,),stem=small")
    module = importing.module_of(model, 3)
    variables = module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    np.savez("w.npz", **{n: np.asarray(x) for n, x in tree.named_leaves(variables).items()})
    importing.import_weights("w.npz", "weights", model=model)
    words = ["init", "--data=dots", "--weights=weights", "--minutes=0.1", "--size=8"]
    assert cli.main(words) == 0
    spec = config.build(StudySpec, config.load("study.py"))
    assert spec.problems() == []
    assert spec.pretrain.num_steps == 0
    assert spec.pretrain.init_from.workdir == "weights"
    assert spec.scratch.model.options["stage_sizes"] == (1,)


def test_what_init_cannot_use_is_one_sentence(folders, capsys):
    def refused(*words):
        assert cli.main(["init", *words]) == 1
        said = capsys.readouterr().err.strip()
        assert "\n" not in said
        return said

    assert "got none: name a folder of other images by --source" in refused("--data=dots")
    assert "dots/train" in refused("--data=dots/train", "--source=stripes")
    assert "none" in refused("--data=none", "--source=dots")
    both = refused("--data=dots", "--source=stripes", "--weights=w")
    assert "got both; leave one out" in both
    assert "got dots, which is none" in refused("--data=dots", "--weights=dots")
    (folders / "study.py").write_text("")
    assert "expected a new file, got study.py" in refused("--data=dots", "--source=stripes")
    assert "minutes above 0" in refused("--data=dots", "--source=stripes", "--minutes=0",
                                        "--out=other.py")  # fmt: skip
    (folders / "dots" / "train" / "few" / "broken.png").write_bytes(b"no")
    said = refused("--data=dots", "--source=stripes", "--out=other.py")
    assert "1 images of train cannot be read" in said


def test_a_workdir_that_can_hold_no_study(tmp_path, capsys):
    pytest.importorskip("sklearn")
    (tmp_path / "file").write_text("")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text("{}")
    command = ["study", "--config=configs/mini.py", "--plan"]
    for name, told in (("file", "for the study, got the file"), ("run", "holds a run; choose")):
        assert cli.main([*command, f"--workdir={tmp_path / name}"]) == 1
        assert told in capsys.readouterr().err
