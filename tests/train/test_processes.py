"""Runs in processes of their own: killed and restarted, and several processes for one run."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.train import tiny
from tlx import checkpoints
from tlx.core import tree
from tlx.train import distributed

ROOT = Path(__file__).parents[2]


def start(*arguments: object, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.train.worker", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*processes: subprocess.Popen[str]) -> None:
    try:
        for process in processes:
            text, _ = process.communicate(timeout=300)
            assert process.returncode == 0, text
    finally:
        for process in processes:
            process.kill()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def joined(
    root: Path, *, processes: int, devices: int, variants: list[str], delay: float = 0
) -> list[subprocess.Popen[str]]:
    address = f"127.0.0.1:{free_port()}"
    return [
        start(
            root,
            devices,
            delay,
            *variants,
            JAX_COORDINATOR_ADDRESS=address,
            JAX_NUM_PROCESSES=str(processes),
            JAX_PROCESS_ID=str(process),
        )
        for process in range(processes)
    ]


def wait_for_step(process: subprocess.Popen[str], when: int) -> None:
    """Returns when the process has said that it is at this step."""
    assert process.stdout
    for line in process.stdout:
        if line.strip().isdigit() and int(line) >= when:
            return
    raise AssertionError(f"it ended before step {when}, with status {process.wait()}")


def assert_same_bits(one: Path, other: Path) -> None:
    """The same metrics, checkpoints and files in two workdirs."""
    assert (one / "metrics.jsonl").read_text() == (other / "metrics.jsonl").read_text()
    assert checkpoints.steps(one) == checkpoints.steps(other)
    a, b = (tree.named_leaves(checkpoints.restore(folder)) for folder in (one, other))
    for name, leaf in a.items():
        np.testing.assert_array_equal(leaf, b[name])
    assert {p.name for p in one.iterdir()} == {p.name for p in other.iterdir()}


def test_two_processes_give_the_numbers_of_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    finish(start(one, 1, 0, "all"))
    finish(*joined(two, processes=2, devices=2, variants=["all"]))
    tiny.assert_close_metrics(one / "all", two / "all")
    assert checkpoints.steps(one / "all") == checkpoints.steps(two / "all")
    a, b = (tree.named_leaves(checkpoints.restore(folder / "all")) for folder in (one, two))
    for name, leaf in a.items():
        np.testing.assert_allclose(leaf, b[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing has stopped."""
    folder = tmp_path_factory.mktemp("whole")
    finish(start(folder, 1, 0, "long"))
    return folder / "long"


def test_a_killed_run_goes_on_to_the_same_end(whole: Path, tmp_path: Path) -> None:
    for when in (7, 21):
        process = start(tmp_path, 1, 0.05, "long")
        wait_for_step(process, when)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        assert not (tmp_path / "long" / "result.json").exists()
    finish(start(tmp_path, 1, 0, "long"))
    assert_same_bits(whole, tmp_path / "long")


def test_a_run_that_is_asked_to_stop_saves_where_it_is(whole: Path, tmp_path: Path) -> None:
    for signum, when in ((signal.SIGTERM, 6), (signal.SIGINT, 21)):
        process = start(tmp_path, 1, 0.2, "long")
        wait_for_step(process, when)
        process.send_signal(signum)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 128 + signum
        found = re.search(rf"stopped by {signum.name} after step (\d+) of run 'tiny'", said)
        assert found
        assert checkpoints.steps(tmp_path / "long")[-1] == int(found[1]) >= when
    finish(start(tmp_path, 1, 0, "long"))
    assert_same_bits(whole, tmp_path / "long")


def test_the_second_signal_ends_a_run_at_once(tmp_path: Path) -> None:
    process = start(tmp_path, 1, 60, "long")
    wait_for_step(process, 0)
    process.send_signal(signal.SIGINT)
    assert process.stdout
    assert "the next Ctrl-C ends at once" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT


@pytest.fixture(scope="module")
def whole_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that nothing has stopped."""
    folder = tmp_path_factory.mktemp("whole_of_two")
    finish(*joined(folder, processes=2, devices=2, variants=["long"]))
    return folder / "long"


def test_all_processes_of_a_run_stop_after_the_same_step(
    whole_of_two: Path, tmp_path: Path
) -> None:
    both = joined(tmp_path / "cut", processes=2, devices=2, variants=["long"], delay=0.2)
    wait_for_step(both[0], 6)
    both[1].send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [128 + signal.SIGTERM] * 2, said
    steps = {re.search(r"stopped by SIGTERM after step (\d+)", text)[1] for text in said}  # type: ignore[index]
    assert [checkpoints.steps(tmp_path / "cut" / "long")[-1]] == [int(step) for step in steps]
    finish(*joined(tmp_path / "cut", processes=2, devices=2, variants=["long"]))
    assert_same_bits(whole_of_two, tmp_path / "cut" / "long")


def test_when_one_process_dies_the_others_end_and_are_started_again(
    whole_of_two: Path, tmp_path: Path
) -> None:
    both = joined(tmp_path, processes=2, devices=2, variants=["long"], delay=0.1)
    wait_for_step(both[0], 6)
    both[1].send_signal(signal.SIGKILL)
    said, _ = both[0].communicate(timeout=200)
    both[1].communicate()
    if both[0].returncode == -signal.SIGABRT:  # it was in an exchange that does not see it
        assert "This most likely indicates that another task died" in said
    else:
        assert both[0].returncode == 1, said
        assert "expected all processes of the run to go on, but one has ended" in said
        assert "Traceback" not in said
    finish(*joined(tmp_path, processes=2, devices=2, variants=["long"]))
    assert_same_bits(whole_of_two, tmp_path / "long")


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, None),
        ({"SLURM_NTASKS": "4", "SLURM_JOB_ID": "1"}, None),
        ({"SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"SLURM_STEP_NUM_TASKS": "4"}, "slurm"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "openmpi"),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "tpu"),
        ({"TLX_DISTRIBUTED": "1"}, "requested"),
        (
            {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"},
            "explicit",
        ),
    ],
)
def test_detect(environ: dict[str, str], found: str | None) -> None:
    assert distributed.detect(environ) == found


def test_detect_names_what_is_missing() -> None:
    with pytest.raises(ValueError, match="got no JAX_NUM_PROCESSES and JAX_PROCESS_ID"):
        distributed.detect({"JAX_COORDINATOR_ADDRESS": "a:1"})


def test_nothing_is_joined_on_one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JAX_COORDINATOR_ADDRESS", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "")
    assert distributed.initialize_if_cluster() is None
