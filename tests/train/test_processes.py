"""Runs in processes of their own: killed and restarted, and several processes for one run."""

import os
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


def joined(root: Path, *, processes: int, devices: int, variants: list[str]) -> None:
    address = f"127.0.0.1:{free_port()}"
    finish(
        *(
            start(
                root,
                devices,
                0,
                *variants,
                JAX_COORDINATOR_ADDRESS=address,
                JAX_NUM_PROCESSES=str(processes),
                JAX_PROCESS_ID=str(process),
            )
            for process in range(processes)
        )
    )


def test_two_processes_give_the_numbers_of_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    finish(start(one, 1, 0, "all"))
    joined(two, processes=2, devices=2, variants=["all"])
    tiny.assert_close_metrics(one / "all", two / "all")
    assert checkpoints.steps(one / "all") == checkpoints.steps(two / "all")
    a, b = (tree.named_leaves(checkpoints.restore(folder / "all")) for folder in (one, two))
    for name, leaf in a.items():
        np.testing.assert_allclose(leaf, b[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_killed_run_goes_on_to_the_same_end(tmp_path: Path) -> None:
    finish(start(tmp_path / "whole", 1, 0, "long"))
    for when in (7, 21):
        process = start(tmp_path / "killed", 1, 0.05, "long")
        assert process.stdout
        for line in process.stdout:
            if line.strip().isdigit() and int(line) >= when:
                process.send_signal(signal.SIGKILL)
                break
        assert process.wait(timeout=60) == -signal.SIGKILL
        process.stdout.close()
        assert not (tmp_path / "killed" / "long" / "result.json").exists()
    finish(start(tmp_path / "killed", 1, 0, "long"))
    whole, killed = tmp_path / "whole" / "long", tmp_path / "killed" / "long"
    assert (whole / "metrics.jsonl").read_text() == (killed / "metrics.jsonl").read_text()
    assert checkpoints.steps(whole) == checkpoints.steps(killed)
    a, b = (tree.named_leaves(checkpoints.restore(folder)) for folder in (whole, killed))
    for name, leaf in a.items():
        np.testing.assert_array_equal(leaf, b[name])
    assert {p.name for p in whole.iterdir()} == {p.name for p in killed.iterdir()}


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
