"""A study on a real Slurm of one node: `python -m tests.clusters.study_trial [DIR]`, ten minutes.

Starts a Slurm by `slurm_node.sh`, in DIR or a folder that is deleted after it. Does a small study
twice on it, and once by a process of this machine. Nothing happens to the first; of the second, the
command that submits is killed, then a job is killed, all are cancelled, one has to make room for
another, and each is given a minute, which is less than P takes. Both have to end in a page, with
the metrics and records of the study that was done here. Prints what happens, with `tlx status`,
and at the end what was found equal.
"""

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.clusters.node import ROOT, say, started
from tlx import records
from tlx.records.schema import as_mapping
from tlx.studies import cluster, marks, status
from tlx.studies.status import Status
from tlx.train import metrics_log

STUDY = (
    "--config=configs/mini.py",
    *(f"--config.{run}.num_steps=20" for run in ("finetune", "scratch")),
    *(f"--config.{run}.checkpoint.steps=()" for run in ("finetune", "scratch")),
    "--config.replicates=2",
    "--config.arms=('C-T',)",
    "--config.forks=()",
    "--config.axes.shuffle=()",
    "--config.questions=('interpolation', 'distances')",
)
"""P, two P-T, RI-T and C-T each, which start from the mean of both P-T, and what is asked."""


class Trial:
    """One study on the Slurm whose commands are in the environment; `steps` of P."""

    def __init__(self, folder: Path, environment: dict[str, str], steps: int) -> None:
        self.folder, self.environment = folder, environment
        of_p = ("num_steps", steps), ("eval_every", steps // 4)
        self.study = ("study", *STUDY, *(f"--config.pretrain.{name}={n}" for name, n in of_p))
        self.study += (f"--workdir={folder}",)

    def tlx(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of tlx, done."""
        return subprocess.run(
            [sys.executable, "-m", "tlx.cli", *words],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    def slurm(self, *words: str) -> str:
        """What a command of Slurm says."""
        return subprocess.run(
            words, env=self.environment, capture_output=True, text=True, check=True
        ).stdout

    def submit(self, given: str = "time=30") -> None:
        """Submits what is neither done nor in the queue."""
        done = self.tlx(*self.study, "--on=slurm", f"--slurm={given}")
        say(done.stdout.strip() or done.stderr.strip())
        assert done.returncode == 0

    def show(self) -> None:
        """Prints what `tlx status` says."""
        say(self.tlx("status", f"--workdir={self.folder}").stdout.strip())

    def wait(self, what: str, is_so: Callable[[Status], bool], seconds: float = 1200) -> Status:
        """Waits until the status is so."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = status.of(self.folder)  # here, where the imports are done
            if is_so(found):
                say(f"… {what}")
                return found
            time.sleep(1)
        self.show()
        raise AssertionError(f"expected within {seconds:.0f} s: {what}")

    def job_of(self, number: int) -> str:
        """The job that does a part."""
        record = cluster.read(self.folder)
        assert record is not None
        return record.job_of()[number]

    def process(self) -> int:
        """The process of the job that does P, or did; 0 where none is known."""
        mark = marks.read(self.folder / "parts").get(0)
        return 0 if mark is None else int(mark.process.split()[1])

    def wait_for_idle(self) -> None:
        """Waits until no job is in the queue."""
        while self.slurm("squeue", "--noheader").strip():
            time.sleep(0.5)


def is_stepping(found: Status) -> bool:
    """Whether P is at some step."""
    first = found.items[0]
    return first.state == "running" and re.match(r"step [1-9]", first.detail) is not None


def is_done(found: Status) -> bool:
    """Whether all is done."""
    return found.exit_status == 0


def plain(trial: Trial) -> None:
    """Nothing happens to it."""
    trial.submit()
    trial.wait("P trains", is_stepping)
    trial.show()
    trial.submit()  # nothing more
    trial.wait("all is done", is_done)
    trial.show()
    done = trial.tlx(*trial.study, "--workers=1")
    assert done.returncode == 0, done.stderr
    found = [line for line in done.stderr.splitlines() if "    done  " in line]
    say(f"a process of this machine finds {len(found)} kinds of parts done, and draws the page")
    assert len(done.stderr.splitlines()) == len(found) + 1, done.stderr


def troubled(trial: Trial) -> None:
    """Everything happens to it."""
    say("== the command that submits is killed")
    words = [*trial.study, "--on=slurm"]
    killed = subprocess.Popen(
        [sys.executable, "-m", "tlx.cli", *words], env=trial.environment, cwd=ROOT,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert killed.stdout
    say(killed.stdout.readline().strip())
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    trial.submit()
    require_each_once(trial)
    trial.wait("P trains", is_stepping)

    say("== the process of its job is killed")
    os.kill(trial.process(), signal.SIGKILL)
    found = trial.wait("P has failed", lambda found: found.items[0].state == "failed")
    assert found.exit_status == 1
    trial.show()
    trial.submit()
    trial.wait("P goes on", is_stepping)

    say("== all are cancelled")
    record = cluster.read(trial.folder)
    assert record is not None
    trial.slurm("scancel", f"--name={record.name}")
    trial.wait_for_idle()
    trial.show()
    trial.submit()
    trial.wait("P goes on", is_stepping)

    for count, grace in enumerate((0, 60), 1):
        say(f"== another job takes the node, with {grace} s of grace")
        trial.slurm("scontrol", "update", "PartitionName=main", f"GraceTime={grace}")
        before = trial.process()
        wanted = ("--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 5")
        trial.slurm("sbatch", *wanted)
        trial.wait("P's job is put back", lambda found, count=count: restarts(trial) == count)
        trial.wait(
            "another process is at it", lambda found, of=before: trial.process() not in (0, of)
        )
        trial.wait("P goes on", is_stepping)
    trial.slurm("scontrol", "update", "PartitionName=main", "GraceTime=0")
    trial.slurm("scancel", f"--name={record.name}")
    trial.wait_for_idle()

    say("== each job has a minute")
    trial.submit("time=1")
    trial.wait("P's job was put back", lambda found: restarts(trial) >= 1)
    trial.show()
    for job in queue_of(trial):  # as this machine may be too busy for anything in a minute
        trial.slurm("scontrol", "update", f"JobId={job}", "TimeLimit=30")
    trial.wait("all is done", is_done)
    say(f"P's job was put back {restarts(trial)} times")
    trial.show()


def require_each_once(trial: Trial) -> None:
    """Requires that every job in the queue is known, and does parts that no other one does."""
    record = cluster.read(trial.folder)
    assert record is not None
    said = trial.slurm("squeue", "--noheader", "--array", f"--name={record.name}", "--format=%i")
    jobs = set(said.split())
    wanted = set(record.job_of().values())
    assert jobs <= wanted, (jobs, wanted)
    say(f"{len(jobs)} jobs in the queue, each part in one")


def restarts(trial: Trial) -> int:
    """How often P's job was put back into the queue."""
    said = trial.slurm("scontrol", "show", "job", trial.job_of(0))
    found = re.search(r"Restarts=(\d+)", said)
    assert found
    return int(found[1])


def queue_of(trial: Trial) -> list[str]:
    """The jobs of the study that are in the queue, arrays as one."""
    record = cluster.read(trial.folder)
    assert record is not None
    said = trial.slurm("squeue", "--noheader", f"--name={record.name}", "--format=%A")
    return sorted(set(said.split()))


def equal(one: Path, other: Path) -> str:
    """What two workdirs have in common, which is all but times."""
    ours, theirs = (records.query(workdir / "records") for workdir in (one, other))
    assert len(ours) == len(theirs)
    for own in ours:
        (same,) = (r for r in theirs if (r.question, r.inputs) == (own.question, own.inputs))
        assert own.key == same.key
        for name, value in as_mapping(own.results).items():
            if name != "seconds":
                np.testing.assert_array_equal(as_mapping(same.results)[name], value)
    runs = sorted(path.name for path in (one / "runs").iterdir())
    for name in runs:
        assert metrics_log.read(one / "runs" / name) == metrics_log.read(other / "runs" / name)
    assert (other / "report.html").exists()
    return f"{len(runs)} runs and {len(ours)} records, equal to the bit, and a page"


def main() -> None:
    """Tries it."""
    parser = argparse.ArgumentParser(description="A study on a real Slurm of one node.")
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="what is kept")
    parser.add_argument(
        "--steps", type=int, default=10000, help="of P, for which a minute is too little (10000)"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        root = (args.folder or Path(temporary)).absolute()
        root.mkdir(exist_ok=True)
        environment = stack.enter_context(started(root / "slurm")) | {"PYTHONPATH": str(ROOT)}
        os.environ.update(environment)  # the status is asked for here
        say("=== here")
        here = Trial(root / "here", environment, args.steps)
        done = here.tlx(*here.study, "--workers=2")
        assert done.returncode == 0, done.stderr
        for act in (plain, troubled):
            say(f"=== {act.__name__}")
            trial = Trial(root / act.__name__, environment, args.steps)
            act(trial)
            say(f"{act.__name__}: {equal(here.folder, trial.folder)}")


if __name__ == "__main__":
    main()
