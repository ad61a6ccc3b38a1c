"""The scripts in launch/ for clusters and clouds: what they would do, told by their dry runs."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers import clones
from tests.test_launch import ROOT, bash

TPU = {"TPU_NAME": "pod", "ZONE": "us-west4-a"}
VM = {"VM_NAME": "box", "ZONE": "us-west4-a"}
JOBSET = (ROOT / "launch/gke_jobset.yaml").read_text()
# what its header says is to be done for GPUs
GPU_JOBSET = re.sub(r"^[^#\n].*# .*TPU.*\n", "", JOBSET, flags=re.MULTILINE).replace("#gpu ", "")
SCRIPTS = ("gce_vm.sh", "local_multi.sh", "slurm.sbatch", "tpu_vm.sh")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository of the scripts alone, with a commit, which a copy of the sources may lack."""
    shutil.copytree(ROOT / "launch", tmp_path / "launch")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "x"], check=True)
    return tmp_path


def told(script: Path, *words: str, **env: str) -> list[list[str]]:
    """The words of each command that a script would run."""
    done = bash(script, "--dry-run", *words, env=env)
    assert done.returncode == 0, done.stderr
    # as the shell reads them, which has quoted them
    return [
        bash("-c", f"printf '%s\\n' {line}").stdout.splitlines()
        for line in done.stdout.splitlines()
    ]


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_the_header(script: str):
    done = bash(ROOT / "launch" / script, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--dry-run" in done.stdout
    assert "set -e" not in done.stdout
    assert "#" not in done.stdout


@pytest.mark.parametrize(("script", "remedy"), [
    ("gce_vm.sh", "set VM_NAME and ZONE to those of the VM"),
    ("local_multi.sh", "say what to run"),
    ("slurm.sbatch", "say what to run"),
    ("tpu_vm.sh", "set TPU_NAME and ZONE to those of the TPU VM"),
])  # fmt: skip
def test_what_is_missing_is_said(script: str, remedy: str):
    done = bash(ROOT / "launch" / script)
    assert (done.returncode, done.stdout) == (1, "")
    assert remedy in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["gce_vm.sh", "gke_jobset.yaml", "tpu_vm.sh"])
def test_what_was_not_tried_says_so(name: str):
    top = (ROOT / "launch" / name).read_text().splitlines()[:20]
    assert any("NOT TRIED ON" in line for line in top)


def test_slurm_job():
    install, step = told(ROOT / "launch/slurm.sbatch", "train", "--config=a b.py")
    assert install == ["ensure_env", "demo"]
    tlx = str(ROOT / ".venv/bin/tlx")
    assert step == ["srun", "--kill-on-bad-exit=1", tlx, "train", "--config=a b.py"]


def test_slurm_array_takes_its_line_of_a_sweep(tmp_path: Path):
    sweep = tmp_path / "a sweep"
    sweep.write_text("--workdir=one\n--workdir='tw o' --config.axes=\"('a', 'b')\"\n")
    words = (f"--sweep={sweep}", "train", "--config=c.py")
    _, step = told(ROOT / "launch/slurm.sbatch", *words, SLURM_ARRAY_TASK_ID="2")
    assert step[3:] == ["train", "--config=c.py", "--workdir=tw o", "--config.axes=('a', 'b')"]
    done = bash(ROOT / "launch/slurm.sbatch", *words, env={"SLURM_ARRAY_TASK_ID": "3"})
    assert f"expected line 3 in {sweep}, got none" in done.stderr
    for order in ((words[0], "--dry-run"), ("--dry-run", words[0])):  # of a dry run the first line
        done = bash(ROOT / "launch/slurm.sbatch", *order, *words[1:])
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("/tlx train --config=c.py --workdir=one \n")
    assert "--sweep needs an array" in bash(ROOT / "launch/slurm.sbatch", *words).stderr


def test_slurm_script_is_not_run_outside_of_slurm():
    done = bash(ROOT / "launch/slurm.sbatch", "train", env={"SLURM_JOB_ID": ""})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "[tlx] no job of Slurm: sbatch launch/slurm.sbatch train\n"


SLURM = {
    # ends when scancel says so
    "srun": 'echo $$ >"$STAND_IN/task"; echo "srun $*"; trap "exit 143" TERM; '
    'for i in $(seq 100); do sleep 0.1; test ! -e "$STAND_IN/fail" || exit 3; done',
    "scancel": 'echo "scancel $*"; kill -TERM "$(cat "$STAND_IN/task")"',
    "scontrol": 'test "$1" = requeue && echo "scontrol $*" || echo PreemptTime=$PREEMPTED',
}


@pytest.mark.parametrize(
    ("what", "more", "status", "ends"),
    [
        (
            "limit",
            {},
            143,
            ["saved, and back into the queue: job 7", "scontrol requeue Incomplete 7"],
        ),
        ("limit", {"SLURM_RESTART_COUNT": "3", "TLX_REQUEUES": "3"}, 1, ["requeued 3 times: not"]),
        (
            "limit",
            {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "4"},
            143,
            ["scancel --signal=TERM 7_4", "scontrol requeue Incomplete 7_4"],
        ),
        ("stopped", {"PREEMPTED": "2030-01-01"}, 143, ["scontrol requeue Incomplete 7"]),
        ("stopped", {}, 143, []),
        ("failed", {}, 3, []),
    ],
)
def test_slurm_job_is_requeued_where_slurm_stopped_it(
    tmp_path: Path, what: str, more: dict[str, str], status: int, ends: list[str]
):
    python = clones.make_clone(tmp_path / "clone")
    for name, code in SLURM.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{code}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    env = {"PYTHON": str(python), "PATH": path, "STAND_IN": str(tmp_path), "PREEMPTED": "None"}
    job = subprocess.Popen(
        ["bash", tmp_path / "clone/launch/slurm.sbatch", "train"],
        env={**os.environ, "TLX_JAX": "", "SLURM_JOB_ID": "7", **env, **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert job.stdout
    said = next(line for line in job.stdout if line.startswith("srun "))
    if what == "limit":
        job.send_signal(signal.SIGUSR1)
    elif what == "stopped":
        os.kill(int((tmp_path / "task").read_text()), signal.SIGTERM)
    else:
        (tmp_path / "fail").touch()
    said, _ = job.communicate(timeout=60)
    assert job.returncode == status, said
    assert all(end in said for end in ends), said
    assert ("scontrol requeue" in said) == any("scontrol" in end for end in ends)


def test_local_multi():
    install, *processes = told(ROOT / "launch/local_multi.sh", "--processes=2", "train", "--x=a b")
    assert install == ["ensure_env", "demo"]
    settings = "JAX_COORDINATOR_ADDRESS=127.0.0.1:PORT", "JAX_NUM_PROCESSES=2"
    assert processes == [
        ["exec", "env", *settings, f"JAX_PROCESS_ID={rank}", f"JAX_LOCAL_DEVICE_IDS={rank}",
         str(ROOT / ".venv/bin/tlx"), "train", "--x=a b"]
        for rank in range(2)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("script", "word"),
    [
        ("local_multi.sh", "--processes"),
        ("local_multi.sh", "--workdir=x"),
        ("slurm.sbatch", "--sweep"),
    ],
)
def test_an_unknown_option_before_the_command_is_named(script: str, word: str):
    done = bash(ROOT / "launch" / script, "--dry-run", word, "2", "train")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"\[tlx\] expected --.* before the command, got {word}\n", done.stderr)


@pytest.mark.parametrize(
    "number",
    ["--processes=two", "--restarts=-1", "--restarts=09", "--processes=0", "--processes=08"],
)
def test_local_multi_wants_numbers(number: str):
    done = bash(ROOT / "launch/local_multi.sh", number, "train")
    assert done.returncode == 1
    assert re.match(r"\[tlx\] expected .*, got ", done.stderr)


def test_tpu_vm(clone: Path):
    script = clone / "launch/tpu_vm.sh"
    queue = ["gcloud", "compute", "tpus", "queued-resources"]
    (create,) = told(script, "create", "--accelerator-type=v5litepod-16", "--spot", **TPU)
    where = "--zone=us-west4-a"
    options = "--accelerator-type=v5litepod-16", "--spot"
    assert create == [*queue, "create", "pod", "--node-id=pod", where, *options]
    assert told(script, "describe", **TPU) == [[*queue, "describe", "pod", where]]
    assert told(script, "delete", **TPU) == [[*queue, "delete", "pod", where, "--force"]]
    archive, copy, start = told(script, "run", "train", "--workdir=/mnt/a b", **TPU)
    assert archive[:4] == ["git", "-C", str(clone), "archive"]
    assert copy[:5] == ["gcloud", "compute", "tpus", "tpu-vm", "scp"]
    assert copy[-3:] == ["pod:tlx.tar", where, "--worker=all"]
    assert start[:-1] == [
        "gcloud",
        "compute",
        "tpus",
        "tpu-vm",
        "ssh",
        "pod",
        where,
        "--worker=all",
    ]
    assert "TLX_JAX=tpu TLX_DISTRIBUTED=1 nohup bash launch/local.sh train" in start[-1]


def test_gce_vm(clone: Path):
    script = clone / "launch/gce_vm.sh"
    vm = ["gcloud", "compute", "instances"]
    (create,) = told(script, "create", "--machine-type=g2-standard-8", **VM)
    options = "--maintenance-policy=TERMINATE", "--machine-type=g2-standard-8"
    assert create == [*vm, "create", "box", "--zone=us-west4-a", *options]
    assert told(script, "delete", **VM) == [[*vm, "delete", "box", "--zone=us-west4-a"]]
    *_, start = told(script, "run", "study", **VM)
    assert start[:-1] == ["gcloud", "compute", "ssh", "box", "--zone=us-west4-a"]
    assert "{ TLX_JAX=cuda12 nohup bash launch/local.sh study >" in start[-1]


@pytest.mark.parametrize(("name", "names"), [("tpu_vm.sh", TPU), ("gce_vm.sh", VM)])
def test_an_unknown_verb_is_named(name: str, names: dict[str, str]):
    done = bash(ROOT / "launch" / name, "train", env=names)
    assert done.returncode == 1
    assert done.stderr == (
        "[tlx] expected create, describe, run, log, stop or delete, got 'train'; see --help\n"
    )


def test_what_a_host_runs_prints_and_ends_as_tlx_does(clone: Path, tmp_path: Path):
    home = tmp_path / "home"
    home.mkdir()
    (clone / "launch/local.sh").write_text('echo "tlx ran: $*"; exit 143\n')
    subprocess.run(["tar", "-cf", home / "tlx.tar", "-C", clone, "launch"], check=True)
    *_, start = told(clone / "launch/tpu_vm.sh", "run", "train", "--workdir=/mnt/a 'b", **TPU)
    done = bash("-c", start[-1].removeprefix("--command="), cwd=home)
    assert (done.returncode, done.stdout) == (143, "tlx ran: train --workdir=/mnt/a 'b\n")
    assert (home / "tlx/tlx-run.pid").read_text().strip().isdigit()


@pytest.mark.parametrize(
    ("text", "limit", "names"),
    [
        (JOBSET, "google.com/tpu", {"TLX_JAX"}),
        (
            GPU_JOBSET,
            "nvidia.com/gpu",
            {"TLX_JAX", "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"},
        ),
    ],
    ids=["tpu", "gpu"],
)
def test_jobset(text: str, limit: str, names: set[str]):
    loaded: dict[str, Any] = yaml.safe_load(text)
    assert (loaded["apiVersion"], loaded["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert "kueue.x-k8s.io/queue-name" in loaded["metadata"]["labels"]
    (hosts,) = loaded["spec"]["replicatedJobs"]
    job = hosts["template"]["spec"]
    assert job["parallelism"] == job["completions"] > 1
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert list(container["resources"]["limits"]) == [limit]
    assert names | {"SOURCE", "COMMIT"} == {each["name"] for each in container["env"]}
    if limit == "nvidia.com/gpu":
        env = {each["name"]: each.get("value") for each in container["env"]}
        assert env["JAX_NUM_PROCESSES"] == str(job["parallelism"])
        # JobSet's name, the job's, its number, the pod's, and the service, named as the JobSet
        name = loaded["metadata"]["name"]
        assert env["JAX_COORDINATOR_ADDRESS"].startswith(f"{name}-{hosts['name']}-0-0.{name}:")
    # the workdir is on the volume that outlives a pod
    (mount,), (volume,) = container["volumeMounts"], pod["volumes"]
    assert mount["name"] == volume["name"]
    assert any(arg.startswith(f"--workdir={mount['mountPath']}/") for arg in container["args"])


def test_jobset_starts_again_without_counting_what_stopped_in_order():
    spec = yaml.safe_load(JOBSET)["spec"]
    job = spec["replicatedJobs"][0]["template"]["spec"]
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    rules = job["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["FailJob", "FailJob"]
    assert rules[1]["onExitCodes"]["values"] == [143]
    (rule,) = spec["failurePolicy"]["rules"]
    assert rule["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
    assert spec["failurePolicy"]["maxRestarts"] > 0
