import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from tlx import cli, config
from tlx.studies.spec import StudySpec
from tlx.train.job import make_module
from tlx.train.spec import RunSpec

MINI = "configs/mini.py"


def build(*overrides):
    return config.build(StudySpec, config.load(MINI, overrides))


def test_the_mini_builds():
    spec = build()
    assert spec.finetune.model == spec.scratch.model
    assert isinstance(spec.pretrain, RunSpec)
    assert isinstance(spec.axes.shuffle, tuple)


def test_the_mini_by_depth_builds():
    spec = config.build(StudySpec, config.load(f"{MINI}:depth"))
    assert len(spec.partial) == 14
    assert "first:5:frozen" in spec.partial


def test_overrides_keep_types():
    spec = build(
        "finetune.optim.rate=1",
        "axes.shuffle=('block:8',)",
        "scratch.data.train_size=100",
        "finetune.data.train_size=100",
    )
    assert spec.finetune.optim.rate == 1.0
    assert spec.axes.shuffle == ("block:8",)
    assert spec.scratch.data.train_size == 100


def test_all_bad_overrides_are_told_at_once():
    with pytest.raises(config.ConfigError) as error:
        build("pretrain.data=3", "name", "title.x=1")
    message = str(error.value)
    for line in (
        "3 override(s) cannot be applied",
        "pretrain.data: holds the keys",
        "name: expected key=value",
        "title.x: title is a value, it has no keys",
    ):
        assert line in message


def test_overrides_that_do_not_fit_are_told_at_once():
    with pytest.raises(config.ConfigError) as error:
        build("finetune.optim.rat=1", "replicates=two")
    message = str(error.value)
    assert "finetune.optim.rat: unknown key 'rat'; did you mean 'rate'?" in message
    assert "replicates: expected int, got 'two'" in message


def test_overrides_set_what_the_file_leaves_out():
    spec = build("pretrain.optim.grad_clip=1", "pretrain.checkpoint.every=5")
    assert spec.pretrain.optim.grad_clip == 1.0
    assert isinstance(spec.pretrain.optim.grad_clip, float)
    assert spec.pretrain.checkpoint.every == 5
    assert build("movement_alignment.rank=3").movement_alignment.rank == 3


def test_options_are_set_under_the_name_of_their_question():
    spec = build("basin.num_draws=9", "questions=('basin', 'spectra')", "spectra.kind=reshaped")
    assert spec.basin == dataclasses.replace(build().basin, num_draws=9)
    assert spec.spectra.kind == "reshaped"
    names = set(spec.asked())
    assert names == {"learning_curve", "mean_learning_curves", "basin", "spectra", "study"}
    with pytest.raises(config.ConfigError) as error:
        build("basin.draws=9", "basins.num_draws=9", "plane.num_points=many")
    for line in (
        "basin.draws: unknown key 'draws'; did you mean 'num_draws'?",
        "basins: unknown key 'basins'; did you mean 'basin'?",
        "plane.num_points: expected int, ",
    ):
        assert line in str(error.value)
    with pytest.raises(config.ConfigError) as error:
        build("basin.num_draws=1", "plane.num_points=1", "questions=('basins',)")
    for line in (
        "3 problem(s)",
        "basin.num_draws: expected an integer of at least 2",
        "plane.num_points: expected an integer of at least 2",
        "questions: unknown question 'basins'; did you mean 'basin'?",
    ):
        assert line in str(error.value)


def test_all_problems_of_a_config_are_told_at_once():
    given = config.load(MINI).to_dict()
    given["replicas"] = 3
    del given["title"]
    given["finetune"]["optim"]["rate"] = "fast"
    given["finetune"]["data"]["image_sise"] = 8
    given["scratch"]["model"] = 3
    with pytest.raises(config.ConfigError) as error:
        config.build(StudySpec, given)
    message = str(error.value)
    for line in (
        "5 problem(s)",
        "replicas: unknown key 'replicas'; did you mean 'replicates'?",
        "title: expected str, got none",
        "finetune.optim.rate: expected float, got 'fast'",
        "finetune.data.image_sise: unknown key 'image_sise'; did you mean 'image_size'?",
        "scratch.model: expected a nested config, got 3",
    ):
        assert line in message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pretrain.data.name=mnist5", "pretrain.data.name: unknown"),
        (
            "axes.shuffle=('block:5',)",
            "axes.shuffle: shuffle: expected a block size that divides image_size 16",
        ),
        (
            "axes.shuffle=('block:8',) "
            "scratch.data.shuffle_seed=1234 finetune.data.shuffle_seed=1234",
            "axes.shuffle: 'block:8' with shuffle_seed 1234 leaves all 4 blocks where they are",
        ),
        ("axes.shuffle=('none',)", "axes.shuffle: expected each once, and not 'none'"),
        ("replicates=1", "replicates: expected at least 2, for two runs of one recipe in basin"),
        ("init_step=latest", "init_step: unknown value 'latest'; did you mean 'last'?"),
        ("pretrain.num_steps=-1", "pretrain.num_steps: expected an integer of at least 0"),
        ("finetune.model.options.width=9", "finetune.model and scratch.model: expected equal"),
        ("pretrain.model.name=fixup_resnet81", "did you mean 'fixup_resnet18'?"),
        ("pretrain.model.options.width=0", "pretrain.model"),
    ],
)
def test_problems_with_values(override, message):
    with pytest.raises(config.ConfigError, match=re.escape(message)):
        build(*override.split())


def test_files_without_a_config(tmp_path):
    with pytest.raises(config.ConfigError, match=r"no config file 'configs/mimi\.py'; there are"):
        config.load("configs/mimi.py")
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(config.ConfigError, match="expected get_config"):
        config.load(str(tmp_path / "empty.py"))


def test_the_argument_of_a_config(tmp_path):
    path = tmp_path / "arg.py"
    path.write_text(
        "import ml_collections\n"
        "def get_config(arg='none'):\n    return ml_collections.ConfigDict({'arg': arg})\n"
    )
    assert config.load(f"{path}:x").arg == "x"
    assert config.load(str(path)).arg == "none"


def test_errors_of_the_command_line_are_one_message(capsys, tmp_path):
    status = cli.main(["study", f"--config={MINI}", f"--workdir={tmp_path}", "--config.nam=x"])
    assert status == 1
    err = capsys.readouterr().err
    assert "tlx study: the config has 1 problem(s)" in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("argv", [["--help"], ["study", "--help"], ["train", "--help"]])
def test_help_teaches(argv, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(argv)
    out = capsys.readouterr().out
    assert "workdir" in out


def test_unknown_arguments_end_with_status_2(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["report", "--workdir=x", "--fast"])
    assert "unknown arguments: --fast" in capsys.readouterr().err


def test_specs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        build().name = "other"


def parts(spec):
    return (spec.pretrain, spec.finetune, spec.scratch) if isinstance(spec, StudySpec) else (spec,)


WITHOUT_FILES = sorted(set(Path("configs").glob("*.py")) - {Path("configs/pacs.py")})
"""pacs.py needs a folder of images, which tests/test_pacs_config.py makes."""


@pytest.mark.parametrize("path", WITHOUT_FILES, ids=lambda path: path.stem)
def test_every_config_builds_and_traces(path):
    given = config.load(str(path))
    for run in parts(config.build(StudySpec if "pretrain" in given else RunSpec, given)):
        module = make_module(run)
        size, channels = run.data.image_size, run.data.channels
        inputs = jax.ShapeDtypeStruct((2, size, size, channels), jnp.float32)
        variables = jax.eval_shape(module.init, jax.random.key(0), inputs)
        logits = jax.eval_shape(module.apply, variables, inputs)
        assert logits.shape == (2, module.num_classes)


@pytest.mark.parametrize("part", ["pretrain", "finetune=runs/mini/runs/p", "scratch"])
def test_a_run_of_the_mini_by_itself(part):
    run = config.build(RunSpec, config.load(f"{MINI}:{part}"))
    assert (run.init_from is not None) == part.startswith("finetune")


def test_no_such_part_of_the_mini():
    with pytest.raises(ValueError, match="Expected one of depth, pretrain, finetune=WORKDIR, scra"):
        config.load(f"{MINI}:x")


def test_a_config_below_a_folder_with_a_colon(tmp_path):
    folder = tmp_path / "12:30"
    folder.mkdir()
    (folder / "a.py").write_text(
        "import ml_collections\n"
        "def get_config(arg='none'):\n    return ml_collections.ConfigDict({'arg': arg})\n"
    )
    assert config.load(f"{folder}/a.py").arg == "none"
    assert config.load(f"{folder}/a.py:from=a:b").arg == "from=a:b"


def test_a_variable_that_is_not_set_is_no_folder(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--config=configs/mini.py:scratch", "--workdir="])
    assert "--workdir: expected a path, got ''; the current folder is ." in capsys.readouterr().err
