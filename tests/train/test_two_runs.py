"""Two processes in one workdir, one after another or at the same time."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints.test_owner import elsewhere
from tests.train.tiny import make_spec
from tlx import checkpoints
from tlx.checkpoints import owner
from tlx.train import job as job_lib
from tlx.train import workdir
from tlx.train.loop import train
from tlx.train.workdir import RunResult


@pytest.mark.parametrize("seed", [0, 1])
def test_what_another_process_has_done_meanwhile_is_seen(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, make_job = make_spec(seed=0), job_lib.make_job
    found: list[RunResult] = []

    def slowly(*args: Any) -> job_lib.Job:
        monkeypatch.setattr(job_lib, "make_job", make_job)
        found.append(train(first, tmp_path))
        return make_job(*args)

    monkeypatch.setattr(job_lib, "make_job", slowly)
    if seed == first.seed:
        assert train(make_spec(seed=seed), tmp_path) == found[0]
        return
    with pytest.raises(ValueError, match="seed: 0 there, 1 here"):
        train(make_spec(seed=seed), tmp_path)
    assert workdir.read_config(tmp_path) == first


def test_what_a_kill_has_left_of_a_run_that_is_done_goes_away_where_nobody_is_at_it(
    tmp_path: Path,
) -> None:
    result = train(make_spec(), tmp_path)
    left = checkpoints.step_path(tmp_path, result.step) / "resume"
    left.mkdir()
    with owner.hold(tmp_path):
        assert train(make_spec(), tmp_path) == result
        assert left.exists()
    assert train(make_spec(), tmp_path) == result
    assert not left.exists()
    assert not (tmp_path / owner.FILE).exists()


def test_a_run_that_waits_for_a_workdir_says_so_and_can_be_stopped(tmp_path: Path) -> None:
    elsewhere(tmp_path)
    config = Path(__file__).parents[1] / "faults/tiny_run.py"
    words = ["train", f"--config={config}", f"--workdir={tmp_path}"]
    command = [sys.executable, "-m", "tlx.cli", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("waiting 90 s to see" in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert [path.name for path in tmp_path.iterdir()] == [owner.FILE]
