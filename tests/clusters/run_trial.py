"""Runs on a real Slurm of one node, by launch/slurm.sbatch: `python -m tests.clusters.run_trial`.

Starts a Slurm by `slurm_node.sh`, in the folder that is given or in one that is deleted after it,
and tries what the header of launch/slurm.sbatch says. Two tasks train one run without being
stopped; then that run again and again, each time stopped in another way, and each time it has to
end with the same metrics and weights, to the bit. Prints what happens; fails where it is not so.
In minutes.
"""

import argparse
import contextlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.clusters import node
from tests.clusters.node import ROOT, say
from tests.helpers import clones
from tlx import checkpoints
from tlx.core import tree
from tlx.train import metrics_log

RUN = (
    "train",
    f"--config={ROOT / 'configs/mini.py'}:scratch",
    "--config.checkpoint.steps=()",
    "--config.model.options.stage_sizes=(1,)",
)
TWO = ("--ntasks-per-node=2",)
EARLY = 100
"""A step at which a run is well under way."""


class Trial:
    """The Slurm, and a copy of the repository from which jobs are submitted.

    Args:
      root: folder of all that is written.
      environment: in which Slurm's commands are found.
      steps: of a run.
    """

    def __init__(self, root: Path, environment: dict[str, str], steps: int) -> None:
        self.root, self.clone = root, root / "clone"
        self.run = (*RUN, f"--config.num_steps={steps}", f"--config.eval_every={steps // 4}")
        python = clones.make_clone(self.clone, clones.REAL)
        self.environment = environment | {"PYTHON": str(python), "TLX_JAX": ""}

    def slurm(self, *words: str) -> str:
        """What a command of Slurm says."""
        return subprocess.run(
            words, cwd=self.clone, env=self.environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    def submit(self, name: str, *options: str, words: tuple[str, ...] = ()) -> str:
        """The job of a run in the workdir of this name."""
        given = ("--gpus-per-node=0", "--cpus-per-task=1", *options)
        workdir = () if "--array" in " ".join(options) else (f"--workdir={self.root / name}",)
        command = (
            "sbatch",
            "--parsable",
            *given,
            "launch/slurm.sbatch",
            *(words or self.run),
            *workdir,
        )
        job = self.slurm(*command)
        shown = command[: command.index("launch/slurm.sbatch") + 1]
        say(f"job {job}: {' '.join(shown)} …")
        return job

    def facts(self, job: str) -> dict[str, str]:
        """What Slurm knows of a job: JobState, Restarts, ExitCode and more."""
        return dict(
            re.findall(r"(\w+)=(\S*)", self.slurm("scontrol", "--oneliner", "show", "job", job))
        )

    def said(self, job: str) -> str:
        """What a job has printed, in all its starts."""
        log = self.clone / f"tlx-{job}.log"
        return log.read_text() if log.exists() else ""

    def wait(self, what: str, is_so: Callable[[], bool], seconds: float = 600) -> None:
        """Returns when it is so."""
        start = time.monotonic()
        while not is_so():
            if time.monotonic() > start + seconds:
                raise AssertionError(f"expected within {seconds:.0f} s: {what}")
            time.sleep(0.2)
        say(f"  {what} ({time.monotonic() - start:.1f} s)")

    def wait_for_step(self, name: str, step: int) -> None:
        """Returns when a run is at this step."""

        def reached() -> bool:
            lines = metrics_log.read(self.root / name)
            return bool(lines) and lines[-1]["step"] >= step

        self.wait(f"step {step}", reached)

    def wait_for_state(self, job: str, *states: str) -> dict[str, str]:
        """What Slurm knows of a job when it is in one of these states."""
        what = states[0].lower() if len(states) == 1 else "ended"
        self.wait(what, lambda: self.facts(job)["JobState"] in states)
        return self.facts(job)

    def ended(self, job: str, *, restarts: int) -> None:
        """Waits for a job's end, which is to be a success after so many restarts at least."""
        found = self.wait_for_state(job, "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")
        assert found["JobState"] == "COMPLETED", (found, self.said(job))
        assert int(found["Restarts"]) >= restarts, found
        say(f"  completed; started again {found['Restarts']} times")

    def saved(self, job: str, name: str) -> int:
        """The step after which all tasks have stopped last, and of which there is a checkpoint."""
        steps = re.findall(r"stopped after step (\d+) of run", self.said(job))
        assert len(steps) >= 2, self.said(job)
        assert steps[-1] == steps[-2], self.said(job)
        last = checkpoints.steps(self.root / name)[-1]
        assert last >= int(steps[-1])
        say(f"  both tasks stopped after step {steps[-1]}, saved")
        return int(steps[-1])

    def require_same(self, name: str, other: str) -> None:
        """Asserts that two runs have the same metrics and weights, to the bit."""
        one, two = self.root / name, self.root / other
        assert (one / "metrics.jsonl").read_text() == (two / "metrics.jsonl").read_text()
        a, b = (tree.named_leaves(checkpoints.restore(folder)) for folder in (one, two))
        assert a.keys() == b.keys()
        for leaf in a:
            np.testing.assert_array_equal(a[leaf], b[leaf])
        lines = len(metrics_log.read(one))
        say(f"  {lines} lines of metrics and {len(a)} arrays of weights equal to the bit")


def two_tasks(trial: Trial) -> None:
    """One run in two processes, which nothing stops."""
    job = trial.submit("whole", *TWO)
    trial.wait_for_step("whole", EARLY)
    trial.ended(job, restarts=0)
    assert "Rank 0 is connected to 1 peer ranks" in trial.said(job)


def requeued(trial: Trial) -> None:
    """Someone requeues the job, which goes on by itself."""
    job = trial.submit("requeued", *TWO)
    trial.wait_for_step("requeued", EARLY)
    say("  scontrol requeue")
    trial.slurm("scontrol", "requeue", job)
    trial.wait_for_state(job, "PENDING")
    trial.saved(job, "requeued")
    trial.ended(job, restarts=1)
    trial.require_same("whole", "requeued")


def time_limit(trial: Trial) -> None:
    """The limit comes before the run's end: it is lowered when the run is under way."""
    job = trial.submit("limit", *TWO, "--time=60", "--signal=B:USR1@100")
    trial.wait_for_step("limit", EARLY)
    hours, minutes, seconds = map(int, trial.facts(job)["RunTime"].split(":"))
    left = 90 - (seconds + 30) % 60
    limit = 60 * hours + minutes + (seconds + left) // 60
    say(f"  a limit of {limit} minutes, {left} seconds from now")
    trial.slurm("scontrol", "update", f"JobId={job}", f"TimeLimit={limit}")
    trial.wait("back in the queue by itself", lambda: "into the queue" in trial.said(job), 90)
    trial.wait_for_state(job, "PENDING")
    trial.slurm("scontrol", "update", f"JobId={job}", "TimeLimit=60")
    trial.saved(job, "limit")
    trial.ended(job, restarts=1)
    trial.require_same("whole", "limit")


def preempted(trial: Trial) -> None:
    """A more urgent job takes the node: at once, then after a time of grace."""
    job, reached = trial.submit("preempted", *TWO), 0
    for grace in ("0", "30"):
        trial.slurm("scontrol", "update", "PartitionName=main", f"GraceTime={grace}")
        trial.wait_for_step("preempted", reached + EARLY)
        say(f"  preempted, with {grace} seconds of grace")
        trial.slurm("sbatch", "--partition=urgent", "--ntasks=2", "--wrap=sleep 1")
        trial.wait_for_state(job, "PENDING")
        reached = trial.saved(job, "preempted")
    trial.slurm("scontrol", "update", "PartitionName=main", "GraceTime=0")
    trial.ended(job, restarts=2)
    trial.require_same("whole", "preempted")


def cancelled_and_killed(trial: Trial) -> None:
    """Neither is requeued; the same sbatch goes on after each."""
    job = trial.submit("again", *TWO)
    trial.wait_for_step("again", EARLY)
    say("  scancel")
    trial.slurm("scancel", job)
    found = trial.wait_for_state(job, "CANCELLED")
    assert found["Restarts"] == "0"
    reached = trial.saved(job, "again")

    job = trial.submit("again", *TWO)
    trial.wait_for_step("again", reached + EARLY)
    say("  SIGKILL to one of both tasks")
    tasks = trial.slurm("scontrol", "listpids", job).splitlines()[1:]
    (victim,) = [line.split()[0] for line in tasks if line.split()[3] == "1"]
    subprocess.run(["kill", "-KILL", victim], check=True)
    found = trial.wait_for_state(job, "FAILED")
    assert found["Restarts"] == "0"
    say(f"  failed with {found['ExitCode']}, not requeued")

    trial.ended(trial.submit("again", *TWO), restarts=0)
    trial.require_same("whole", "again")


def failed(trial: Trial) -> None:
    """A command that cannot be done fails once."""
    job = trial.submit("failed", *TWO, words=(*trial.run, "--config.num_steps=-1"))
    found = trial.wait_for_state(job, "FAILED")
    assert (found["Restarts"], found["ExitCode"]) == ("0", "1:0")
    assert "num_steps" in trial.said(job)


def array(trial: Trial) -> None:
    """A sweep: a task for each line. That whose number is the array's is requeued alone."""
    rates = ("0.05", "0.1", "0.2")
    sweep = trial.root / "sweep"
    sweep.write_text(
        "".join(f"--workdir={trial.root}/rate{r} --config.optim.rate={r}\n" for r in rates)
    )
    words = (f"--sweep={sweep}", *trial.run)
    job = trial.submit("", "--array=1-3", words=words)
    tasks = [f"{job}_{number}" for number in (1, 2, 3)]
    trial.wait_for_step("rate0.05", EARLY)
    trial.slurm("scontrol", "requeue", tasks[0])
    for task, rate in zip(tasks, rates, strict=True):
        trial.ended(task, restarts=1 if task == tasks[0] else 0)
        config = (trial.root / f"rate{rate}/config.json").read_text()
        assert f'"rate": {float(rate)}' in config
    say("  the last of them on this machine, without Slurm")
    workdir = f"--workdir={trial.root / 'here'}"
    here = [sys.executable, "-m", "tlx.cli", *trial.run, "--config.optim.rate=0.2", workdir]
    subprocess.run(here, cwd=ROOT, check=True, capture_output=True)
    trial.require_same("rate0.2", "here")


TRIALS = (two_tasks, requeued, time_limit, preempted, cancelled_and_killed, failed, array)
# a study whose jobs wait for each other is tried by a trial of its own


def main() -> None:
    """Tries all, or those that are named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, help="what is written is kept there")
    parser.add_argument(
        "--steps", type=int, default=6000, help="of a run: a minute's, for the limit to come before"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        root = (given.folder or Path(temporary)).absolute()
        root.mkdir(parents=True, exist_ok=True)
        trial = Trial(root, stack.enter_context(node.started(root / "slurm")), given.steps)
        start = time.monotonic()
        for each in TRIALS:
            say(f"{each.__name__.replace('_', ' ')}: {each.__doc__}")
            each(trial)
        say(f"all as it should be, in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
