"""launch/local_multi.sh: several processes of one run, which is stopped, resumed and loses one."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import clones
from tests.train import tiny
from tlx import checkpoints

WORKER = (
    f'cd "{clones.ROOT}" && echo "process $$" && exec "{sys.executable}" -m tests.train.worker "$@"'
)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("multi") / "clone"
    clones.make_clone(root, WORKER)
    return root


def start(clone: Path, *arguments: object) -> subprocess.Popen[str]:
    script = clone / "launch/local_multi.sh"
    return subprocess.Popen(
        ["bash", str(script), *map(str, arguments)],
        env={**os.environ, "PYTHON": str(clone.parent / "python3")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def lines_until(process: subprocess.Popen[str], step: int) -> Iterator[str]:
    """What is printed until process 0 is at this step of its run."""
    assert process.stdout
    for line in process.stdout:
        yield line
        found = re.fullmatch(r"\[0\] (\d+)\n", line)
        if found and int(found[1]) >= step:
            return
    raise AssertionError(f"it ended before step {step}, with status {process.wait()}")


def test_two_processes_are_one_run_which_is_stopped_and_loses_one(clone: Path, tmp_path: Path):
    alone = start(clone, "--processes=1", tmp_path / "one", 2, 0, "long")
    said, _ = alone.communicate(timeout=300)
    assert alone.returncode == 0, said

    command = ("--processes=2", "--restarts=1", tmp_path / "two", 1, 0.1, "long")
    stopped = start(clone, *command)
    said = "".join(lines_until(stopped, 6))
    assert "[1] process " in said
    stopped.send_signal(signal.SIGTERM)
    said, _ = stopped.communicate(timeout=300)
    assert stopped.returncode == 128 + signal.SIGTERM, said
    assert said.count("stopped by SIGTERM") == 2
    (step,) = set(re.findall(r"after step (\d+)", said))
    assert checkpoints.steps(tmp_path / "two/long")[-1] == int(step)

    resumed = start(clone, *command)
    before = "".join(lines_until(resumed, 20))
    (peer,) = re.findall(r"^\[1\] process (\d+)$", before, re.MULTILINE)
    os.kill(int(peer), signal.SIGKILL)
    said, _ = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, said
    assert re.search(r"a process ended with status \d+: starting all again \(1 of 1\)", said)
    tiny.assert_close_metrics(tmp_path / "one/long", tmp_path / "two/long")


def test_a_command_that_cannot_be_read_is_not_started_again(tmp_path: Path):
    clones.make_clone(tmp_path / "clone", "exit 2")
    done = start(tmp_path / "clone", "--processes=2", "--restarts=3", "train")
    said, _ = done.communicate(timeout=300)
    assert done.returncode == 2
    assert "starting all again" not in said
    assert said.endswith("[tlx] a process ended with status 2\n")


def test_the_status_is_that_of_a_process_that_failed(tmp_path: Path):
    clones.make_clone(tmp_path / "clone", 'test "$JAX_PROCESS_ID" = 1 || sleep 1; exit 7')
    done = start(tmp_path / "clone", "--processes=2", "--restarts=1", "train")
    said, _ = done.communicate(timeout=300)
    assert done.returncode == 7
    assert "[tlx] a process ended with status 7: starting all again (1 of 1)\n" in said
    assert said.endswith("[tlx] a process ended with status 7\n")
