"""A study on a Slurm cluster: its parts as jobs, submitted by submitit.

What is submitted holds the numbers of parts and the place of the workdir, nothing else: a job reads
study.json when it starts, and what is done in the workdir. Before its time is over it saves and is
put back into the queue, `REQUEUES` times at most.
"""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from tlx.checkpoints import owner
from tlx.core import cache, processor
from tlx.report.words.table import Table
from tlx.studies import cluster, graph, jobs, marks, runner, sbatch
from tlx.studies import workdir as files
from tlx.studies.cluster import Record, Submitted
from tlx.studies.graph import Task
from tlx.studies.jobs import Array
from tlx.studies.pool import Part
from tlx.studies.sbatch import Resources
from tlx.studies.spec import StudySpec
from tlx.train import initial, stopping, trackers

REQUEUES = 10
"""How often a job whose time is over is put back into the queue."""


class Plan(NamedTuple):
    """What is to be submitted.

    Attributes:
      tasks: all of the study.
      parts: the same.
      done: numbers of those that are done.
      queued: of those that jobs in the queue will do.
      arrays: of jobs for all others.
      stale: jobs in the queue that nobody needs: they wait for what failed, or were submitted by a
        command that was killed.
    """

    tasks: list[Task]
    parts: list[Part]
    done: set[int]
    queued: set[int]
    arrays: list[Array]
    stale: set[str]

    @property
    def num_jobs(self) -> int:
        """That are to be submitted."""
        return sum(len(array.jobs) for array in self.arrays)

    def summary(self, submitted: str) -> str:
        """How many parts and jobs there are, in a sentence."""
        if len(self.done) == len(self.parts):
            return "all is done, nothing is to be submitted"
        jobs = f"{self.num_jobs} job{'s' * (self.num_jobs != 1)} {submitted}"
        queued = len(self.queued - self.done)
        counts = f"{len(self.done)} of {len(self.parts)} parts done, {queued} in the queue"
        return f"{jobs if self.arrays else 'nothing is to be submitted'}; before, {counts}"

    def text(self) -> str:
        """The arrays, what they do and which wait for which, as a table."""
        place = {n: i for i, a in enumerate(self.arrays, 1) for job in a.jobs for n in job}
        rows = []
        for i, array in enumerate(self.arrays, 1):
            after = sorted({place[n] for n in array.needs if n in place})
            words = [*map(str, after), *["the queue"] * bool(array.needs & self.queued)]
            count = sum(map(len, array.jobs))
            counts = (str(i), str(len(array.jobs)), str(count))
            rows.append((self.what(array), *counts, ", ".join(words)))
        return Table(("what", "array", "jobs", "parts", "after"), tuple(rows)).text()

    def what(self, array: Array) -> str:
        """What the jobs of an array do, in words."""
        names = dict.fromkeys(graph.row_of(self.tasks[n]) for job in array.jobs for n in job)
        shown = list(names)[:3]
        return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def plan(spec: StudySpec, workdir: Path, resources: Resources) -> Plan:
    """What is to be submitted of a study; nothing is written.

    Raises:
      ValueError: there is no Slurm here, the workdir holds another study, its jobs.json is damaged
        or of another version, or sbatch would misread its name.
    """
    most = _most_jobs(spec, workdir)
    record = cluster.read(workdir) or cluster.new_record(spec.name)
    states, tasks = cluster.states(record), files.tasks(spec, workdir)
    parts, done = graph.parts(tasks), graph.done(tasks)
    cluster.require_parts(workdir, record, len(parts))
    queued = cluster.queued(record, states, parts, done)
    job_of = record.job_of()
    wanted = {job_of[number] for number in queued}
    stale = {job for job, s in states.items() if s.state not in cluster.ENDED and job not in wanted}
    todo = [n for n in range(len(parts)) if n not in done and n not in queued]
    whole = jobs.arrays(parts, todo, queued - done, runs=resources.runs)
    arrays = [array for one in whole for array in jobs.split(one, most)]
    return Plan(tasks, parts, done, queued, arrays, stale)


def _most_jobs(spec: StudySpec, workdir: Path) -> int:
    """How many jobs an array may have; raises where none can be submitted, writing nothing."""
    sbatch.require_plain(workdir.absolute())
    files.require(spec, workdir)
    return cluster.most_jobs()


def submit(
    spec: StudySpec,
    workdir: Path,
    resources: Resources,
    *,
    log_to: Sequence[str] = (),
    tell: Callable[[str], None] = print,
    config_file: str | None = None,
) -> Plan:
    """Submits what is neither done nor in the queue, and says what that was.

    Computes nothing, and needs no accelerator. What was submitted is known even if this process is
    killed while it submits.

    Args:
      spec: the study.
      workdir: its folder, which all nodes see at this path.
      resources: of each job.
      log_to: as `tlx.studies.runner.run` takes it.
      tell: called with a line for each array.
      config_file: as `tlx.studies.runner.run` takes it; all nodes see it at its path.

    Raises:
      ImportError: submitit is missing.
      ValueError: as `plan`, before anything is written; Slurm takes no more jobs.
      tlx.checkpoints.owner.BusyError: another process runs or submits the study.
    """
    submitit = _submitit()
    trackers.require(log_to)
    if spec.pretrain.init_from is not None:
        initial.find_origin(spec.pretrain.init_from)  # before anything is written
    workdir = workdir.absolute()
    _most_jobs(spec, workdir)
    with sbatch.environment(resources, tell), owner.hold(workdir, tell=tell):
        files.claim(spec, workdir)
        made = plan(spec, workdir, resources)
        record = cluster.read(workdir) or cluster.new_record(spec.name)
        cluster.write(workdir, record)  # before there are jobs of this name
        ending = cluster.cancel(record, made.stale)
        if ending:
            tell("jobs that nobody needs are cancelled; the new ones begin when those have saved")
        digest = files.digest(made.tasks)
        left = made.num_jobs
        for array in made.arrays:
            executor = submitit.SlurmExecutor(workdir / cluster.LOGS, max_num_timeout=REQUEUES)
            waits = ",".join(filter(None, (record.dependency(array.needs), ending)))
            executor.update_parameters(**sbatch.parameters(resources, record.name, waits))
            given = resources.cpus, digest, tuple(log_to), bool(resources.gpus), config_file
            todo = [Job(str(workdir), numbers, *given) for numbers in array.jobs]
            try:
                ids = [job.job_id for job in executor.submit_array(todo)]
            except RuntimeError as error:
                cluster.forget_refused(workdir)
                said = sbatch.refused(made.num_jobs - left, left, str(error))
                raise ValueError(said) from error
            submitted = Submitted(ids[0].partition("_")[0], array.jobs)
            record = record._replace(arrays=(*record.arrays, submitted))
            cluster.write(workdir, record)
            left -= len(ids)
            span = f"_[0-{len(ids) - 1}]" if len(ids) > 1 else ""
            tell(f"job {submitted.id}{span}: {made.what(array)}{_after(record, array)}")
    return made


def _after(record: Record, array: Array) -> str:
    """Which jobs an array waits for, in words."""
    job_of = record.job_of()
    found = {job_of[number].partition("_")[0] for number in array.needs}
    return f", after {', '.join(sorted(found, key=int))}" if found else ""


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise ImportError(
            "jobs of a Slurm cluster are submitted by submitit, which is not installed: "
            "pip install '.[slurm]' in the folder of tlx"
        ) from error
    return submitit


class Job:
    """What a job does, as submitit wants it: called, and asked for what goes on when it stops.

    Args:
      workdir: the study's.
      numbers: of its parts.
      workers: processes that do them, where there is no accelerator.
      digest: of the plan in which they have these numbers.
      log_to: where the numbers of runs go besides.
      has_gpus: whether it was given GPUs.
      config_file: see `submit`.
    """

    def __init__(
        self,
        workdir: str,
        numbers: Sequence[int],
        workers: int,
        digest: str,
        log_to: tuple[str, ...],
        has_gpus: bool,
        config_file: str | None = None,
    ) -> None:  # each is a fact of the job's file
        self.config_file = config_file
        self.workdir, self.numbers, self.log_to = workdir, tuple(numbers), log_to
        self.workers, self.digest, self.has_gpus = workers, digest, has_gpus

    def __call__(self) -> None:
        """Does the parts that are not done; when time is short, saves and is put into the queue."""
        processor.tune()
        cache.keep_programs()
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax logs each file
        requeue = signal.getsignal(signal.SIGUSR2)  # submitit's: counts, puts it back, exits
        is_short = list[bool]()

        def stop(signum: int, frame: Any) -> None:
            is_short.append(True)
            os.kill(os.getpid(), signal.SIGTERM)  # a run saves and stops

        signal.signal(signal.SIGUSR2, stop)
        try:
            self._require_gpus()
            runner.run_some(
                Path(self.workdir),
                self.numbers,
                workers=self.workers,
                digest=self.digest,
                log_to=self.log_to,
                job=_job_id(os.environ),
                config_file=self.config_file,
            )
        except stopping.Stopped as stopped:
            signal.signal(signal.SIGUSR2, requeue)
            if is_short or cluster.is_preempted(_job_id(os.environ)):
                self._again()
            sys.exit(128 + stopped.signum)
        finally:
            signal.signal(signal.SIGUSR2, requeue)

    def _require_gpus(self) -> None:
        """Raises where the job was given GPUs that JAX cannot use, and would do without them."""
        if self.has_gpus and jax.default_backend() == "cpu":
            error = ValueError(
                "expected JAX to compute on the GPUs that were asked for, got none that it can "
                "use; install it with CUDA in this environment (pip install 'jax[cuda13]') or "
                "leave out gpus in --slurm, cancel the jobs by scancel and give the command again"
            )
            runner.mark_failed(Path(self.workdir), self.numbers, error, job=_job_id(os.environ))
            raise error

    def _again(self) -> None:
        """Puts the job into the queue and ends it, as long as that is allowed."""
        marks.forget_running(files.marks_of(Path(self.workdir)), self.numbers)
        try:
            signal.raise_signal(signal.SIGUSR2)
        except subprocess.CalledProcessError:  # it is there: Slurm was faster
            return
        except RuntimeError:
            error = ValueError(
                f"its time was over {REQUEUES + 1} times; give the command again, which goes on "
                "from here, with more time for each job by --slurm=time=…"
            )
            runner.mark_failed(Path(self.workdir), self.numbers, error, job=_job_id(os.environ))
            raise

    def checkpoint(self) -> Any:
        """What goes on: the same, since what is done stands in the workdir."""
        return _submitit().helpers.DelayedSubmission(self)


def _job_id(environ: Mapping[str, str]) -> str:
    """This job, as Slurm calls it."""
    if "SLURM_ARRAY_JOB_ID" in environ:
        return f"{environ['SLURM_ARRAY_JOB_ID']}_{environ['SLURM_ARRAY_TASK_ID']}"
    return environ.get("SLURM_JOB_ID", "")
