"""Damaged files of a run: the last good checkpoint is taken, or a sentence says what to do."""

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.train.test_identity import contents
from tests.train.test_loop import Stop, assert_same_files, run, stopping_at
from tests.train.tiny import make_spec
from tlx import checkpoints, cli
from tlx.train.spec import InitFrom, RunSpec


@pytest.mark.parametrize("file", ["config.json", "result.json"])
def test_a_damaged_file_of_a_run_is_named(file: str, tmp_path: Path) -> None:
    run(make_spec(num_steps=1), tmp_path)
    (tmp_path / file).write_text((tmp_path / file).read_text()[:40])
    with pytest.raises(ValueError, match=rf"{file}: expected JSON, .*delete {tmp_path}"):
        run(make_spec(num_steps=1), tmp_path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"test": {}}, "test {}"),
        ({"test": {"loss": 1.0, "accuracy": "high", "count": 3}}, "test {'loss': 1.0, 'accuracy'"),
        ({"step": "x"}, "step 'x'"),
        ({"step": True, "seconds": None}, "step True, seconds None"),
        ({"best_test": [], "origin": {"run": "tiny"}}, "best_test [], origin {'run': 'tiny'}"),
        ({"speed": 3}, "speed 3"),
        (None, "no name, no step, no train, no test, "),
    ],
)
def test_a_result_of_another_content_is_no_result(
    changes: dict[str, Any] | None,
    told: str,
    stopped: tuple[RunSpec, Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec, _, whole = stopped
    shutil.copytree(whole, tmp_path / "run")
    path = tmp_path / "run/result.json"
    values = {} if changes is None else json.loads(path.read_text()) | changes
    path.write_text(json.dumps(values))
    said = re.escape(f"{path}: expected the result of a run, got one with {told}")
    with pytest.raises(ValueError, match=rf"^{said}.*; delete {path} and give the command again"):
        run(spec, tmp_path / "run")
    assert cli.main(["status", f"--workdir={tmp_path / 'run'}"]) == 1
    assert told in capsys.readouterr().err
    path.unlink()
    run(spec, tmp_path / "run")
    assert_same_files(tmp_path / "run", whole)


def test_an_area_under_the_curve_that_is_not_defined_is_no_damage(
    stopped: tuple[RunSpec, Path, Path], tmp_path: Path
) -> None:
    spec, _, whole = stopped
    shutil.copytree(whole, tmp_path / "run")
    path = tmp_path / "run/result.json"
    values = json.loads(path.read_text())
    values["test"]["auc"] = None
    path.write_text(json.dumps(values))
    assert run(spec, tmp_path / "run").test == values["test"]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 16
    file.write_bytes(data)


def largest(folder: Path) -> Path:
    return max(folder.rglob("ocdbt.process_0/d/*"), key=lambda path: path.stat().st_size)


LEFT_BY_ORBAX = pytest.mark.filterwarnings(  # reads of other files, not waited for after an error
    "ignore::pytest.PytestUnraisableExceptionWarning"
)
DAMAGES: dict[str, Any] = {
    "resume cut": lambda step: cut(largest(step / "resume")),
    "resume flipped": lambda step: flip(largest(step / "resume")),
    "resume gone": lambda step: shutil.rmtree(step / "resume"),
    "weights flipped": lambda step: flip(largest(step / "weights")),
    "a file gone": lambda step: (step / "weights/manifest.ocdbt").unlink(),
    "meta cut": lambda step: cut(step / "meta/metadata"),
    "meta changed": lambda step: (step / "meta/metadata").write_text(
        (step / "meta/metadata").read_text().replace('"step": 8', '"step": 6')
    ),
    "all gone": lambda step: [shutil.rmtree(path) for path in step.iterdir() if path.is_dir()],
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunSpec, Path, Path]:
    """A run that was stopped after its checkpoint of step 8, and one that was not stopped."""
    folder = tmp_path_factory.mktemp("stopped")
    keep = {"rule": "none", "keep_best": False, "resume_every": 2}
    spec = make_spec(checkpoint=keep, eval_every=3)
    run(spec, folder / "whole")
    with pytest.raises(Stop):
        run(spec, folder / "part", progress=stopping_at(9))
    assert checkpoints.steps(folder / "part") == (0, 6, 8)
    return spec, folder / "part", folder / "whole"


@LEFT_BY_ORBAX
@pytest.mark.parametrize("damage", DAMAGES)
def test_the_last_good_checkpoint_is_taken(
    damage: str,
    stopped: tuple[RunSpec, Path, Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spec, part, whole = stopped
    shutil.copytree(part, tmp_path / "run")
    DAMAGES[damage](tmp_path / "run/checkpoints/8")
    run(spec, tmp_path / "run")
    (told,) = (record.getMessage() for record in caplog.records if record.name == "tlx")
    start = f"run 'tiny' goes on from step 6, its last good one: the checkpoint {tmp_path}/run/"
    assert told.startswith(f"{start}checkpoints/8 is damaged: its ")
    assert "\n" not in told
    assert_same_files(tmp_path / "run", whole)


@LEFT_BY_ORBAX
def test_without_a_good_checkpoint_it_says_what_to_do(
    stopped: tuple[RunSpec, Path, Path], tmp_path: Path
) -> None:
    spec, part, _ = stopped
    workdir = tmp_path / "run"
    shutil.copytree(part, workdir)
    for step in ("8", "6"):
        cut(largest(workdir / "checkpoints" / step / "resume"))
    before = contents(workdir)
    with pytest.raises(ValueError, match="expected an undamaged checkpoint") as caught:
        run(spec, workdir)
    assert str(caught.value).startswith(
        "expected an undamaged checkpoint to continue run 'tiny' from, got none: the checkpoint "
        f"{workdir}/checkpoints/8 is damaged: its resume cannot be read ("
    )
    assert str(caught.value).endswith(
        f"); delete {workdir} to train anew, or choose another workdir"
    )
    assert contents(workdir) == before


@LEFT_BY_ORBAX
def test_a_last_checkpoint_that_was_damaged_before_the_result_was_written(
    stopped: tuple[RunSpec, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, _, whole = stopped
    workdir = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr("tlx.train.workdir.write_result", None)
        with pytest.raises(TypeError):
            run(spec, workdir)
    assert checkpoints.steps(workdir) == (0, 10, 12)
    cut(largest(workdir / "checkpoints/12/weights"))
    run(spec, workdir)
    assert_same_files(workdir, whole)


def test_metrics_that_lack_lines_are_not_gone_on_from(
    stopped: tuple[RunSpec, Path, Path], tmp_path: Path
) -> None:
    spec, part, _ = stopped
    shutil.copytree(part, tmp_path / "run")
    cut(tmp_path / "run/metrics.jsonl")
    with pytest.raises(
        ValueError, match=r"expected the evaluation of step \d .*metrics.jsonl, got none"
    ):
        run(spec, tmp_path / "run")


@LEFT_BY_ORBAX
def test_a_damaged_checkpoint_that_is_asked_for_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(make_spec(num_steps=4), tmp_path / "P")
    damaged = tmp_path / "P/checkpoints/4"
    flip(largest(damaged / "weights"))
    told = rf"checkpoint {damaged} is damaged: its weights cannot be read .*there are 0, 1, 2"
    with pytest.raises(checkpoints.DamagedError, match=told):
        checkpoints.restore(tmp_path / "P")
    assert run(make_spec(num_steps=4), tmp_path / "P") == result
    start = InitFrom(workdir=str(tmp_path / "P"), step=4)
    with pytest.raises(checkpoints.DamagedError, match=told):
        run(make_spec(init_from=start), tmp_path / "T")
    assert run(make_spec(init_from=dataclasses.replace(start, step=2)), tmp_path / "T").step == 12
    words = ["export", f"--workdir={tmp_path / 'P'}", f"--out={tmp_path / 'x.safetensors'}"]
    assert cli.main(words) == 1
    assert capsys.readouterr().err.startswith(f"tlx export: the checkpoint {damaged} is damaged")
    cut(tmp_path / "P/checkpoints/1/meta/metadata")
    with pytest.raises(checkpoints.DamagedError, match=r"checkpoints/1 is damaged: its meta"):
        checkpoints.resolve(tmp_path / "P", "best")
