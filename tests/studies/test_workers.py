"""A study by several processes: the numbers of one, also where it was killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.studies.tiny import tiny_study
from tlx import models, records
from tlx.records.schema import as_mapping
from tlx.studies import pool, resources, runner, status
from tlx.studies.axes import Axes
from tlx.train import metrics_log

pytest.importorskip("sklearn", reason="the tiny study trains on scikit-learn's digits")

KILLS = ("runs/*/result.json", "records/distances/*.json")


def study():
    return tiny_study(questions=("interpolation", "distances"), axes=Axes(), partial=())


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process makes."""
    workdir = tmp_path_factory.mktemp("alone")
    _, said = begin(workdir, workers=1).communicate(timeout=300)
    assert (workdir / "report.html").exists(), said
    return workdir


def begin(workdir, workers=2):
    """A process that runs the study, in a session of its own with those that it starts."""
    code = (
        "import sys; from pathlib import Path; from tests.studies.test_workers import study\n"
        "from tlx.studies import runner\n"
        "if __name__ == '__main__':\n"
        f"    runner.run(study(), Path(sys.argv[1]), workers={workers})"
    )
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, "-c", code, str(workdir)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """What two processes made that were killed twice, and what was said at last."""
    workdir = tmp_path_factory.mktemp("killed")
    for pattern in KILLS:
        process = begin(workdir)
        while not list(workdir.glob(pattern)):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    _, said = begin(workdir).communicate(timeout=300)
    return workdir, said


def test_records_and_runs_are_those_of_one_process(alone, killed):
    workdir, said = killed
    ours, theirs = (records.query(root / "records") for root in (alone, workdir))
    assert len(ours) == len(theirs) == 5 + 1 + 4 + 8 + 1, said
    for own in ours:
        (other,) = (r for r in theirs if (r.question, r.inputs) == (own.question, own.inputs))
        assert own.key == other.key
        for name, value in as_mapping(own.results).items():
            if name != "seconds":
                np.testing.assert_array_equal(as_mapping(other.results)[name], value)
    for run in (alone / "runs").iterdir():
        assert metrics_log.read(run) == metrics_log.read(workdir / "runs" / run.name)


def test_what_was_done_before_a_kill_is_not_done_again(killed):
    _, said = killed
    done = [line for line in said.splitlines() if "    done  train" in line]
    assert done
    assert "distances  8 records" in said
    assert (killed[0] / "report.html").exists()


def test_an_accelerator_belongs_to_one_process(tmp_path, monkeypatch):
    def run_here(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(pool, "run", None)
    monkeypatch.setattr(pool, "run_here", run_here)
    monkeypatch.setattr(resources, "workers", lambda: None)
    with pytest.raises(KeyboardInterrupt):
        runner.run(study(), tmp_path, workers=2)


def test_another_number_of_processes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="workers: expected at least 1 process, got 0"):
        runner.run(study(), tmp_path / "none", workers=0)
    assert not (tmp_path / "none").exists()


def test_processes_know_the_model_that_a_config_registers(tmp_path):
    config_file = Path(__file__).with_name("own_net.py")
    words = [f"--config={config_file}", f"--workdir={tmp_path}", "--workers=2"]
    command = [sys.executable, "-m", "tlx.cli", "study", *words]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").exists()
    # what knows the workdir alone says how it is
    assert "own_net" not in models.MODELS
    assert {item.state for item in status.of(tmp_path).items} == {"done"}
    (run, *_) = (tmp_path / "runs").iterdir()
    assert [item.state for item in status.of(run).items] == ["done"]
