"""The jobs of a study on a Slurm cluster: which there are, what each does, how it is with them.

What was submitted stands in `jobs.json` in the workdir; how it is with a job, Slurm is asked.
"""

import json
import re
import secrets
import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tlx.studies.pool import Part
from tlx.train import metrics_log

FILE = "jobs.json"
LOGS = "jobs"
"""The folder of what jobs say, in the study's."""

ENDED = {
    "BOOT_FAIL": "its node did not start",
    "CANCELLED": "it was cancelled",
    "COMPLETED": "it ended before its parts were done",
    "DEADLINE": "its deadline passed",
    "FAILED": "its process ended with an error",
    "NODE_FAIL": "its node failed",
    "OUT_OF_MEMORY": "it took more memory than it had asked for; ask for more by --slurm=mem=…",
    "PREEMPTED": "it had to make room for another job",
    "REVOKED": "another cluster took it",
    "TIMEOUT": "its time was over; ask for more by --slurm=time=…",
}
"""States of jobs that are no more in the queue, and what they mean where a part is not done."""

_REFUSED = r"\.submission_file_[0-9a-f]+\.sh|[0-9a-f]{32}\.pkl"
"""What submitit calls the files of jobs that have no number yet."""

UNKNOWN = "it is in the queue no more, and Slurm does not remember why"
NEVER = "DependencyNeverSatisfied"
_HOLDS = ("REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")


class Submitted(NamedTuple):
    """Jobs that were submitted together.

    Attributes:
      id: by which Slurm knows them.
      jobs: the numbers of the parts that each does.
    """

    id: str
    jobs: tuple[tuple[int, ...], ...]

    @property
    def ids(self) -> list[str]:
        """Of each job; those of an array have an index."""
        if len(self.jobs) == 1:
            return [self.id]
        return [f"{self.id}_{index}" for index in range(len(self.jobs))]


class Record(NamedTuple):
    """What was submitted for a study.

    Attributes:
      name: that all its jobs have, and no others.
      arrays: in the order in which they were submitted.
    """

    name: str
    arrays: tuple[Submitted, ...] = ()

    def job_of(self) -> dict[int, str]:
        """The job of each part, the last where there were several."""
        pairs = (pair for a in self.arrays for pair in zip(a.ids, a.jobs, strict=True))
        return {number: job for job, numbers in pairs for number in numbers}

    def dependency(self, numbers: Collection[int]) -> str:
        """What Slurm calls waiting for the jobs of some parts; "" for none."""
        job_of = self.job_of()
        wanted = {job_of[number] for number in numbers}
        found = []
        for array in self.arrays:
            ids = [job for job in array.ids if job in wanted]
            found += [array.id] if len(ids) == len(array.jobs) else ids
        return "afterok:" + ":".join(found) if found else ""


class State(NamedTuple):
    """How it is with a job.

    Attributes:
      state: in Slurm's words: "PENDING", "RUNNING", "TIMEOUT" …
      reason: why it waits or ended, in Slurm's words.
      node: where it runs.
    """

    state: str
    reason: str = ""
    node: str = ""

    @property
    def is_queued(self) -> bool:
        """Whether it waits or runs, or could."""
        return self.state not in ENDED and self.reason != NEVER

    @property
    def is_running(self) -> bool:
        """Whether it runs; not while it is being ended."""
        return self.state in ("RUNNING", "SUSPENDED", "STOPPED")

    @property
    def is_held(self) -> bool:
        """Whether it waits for somebody to release it."""
        if self.state in _HOLDS:
            return True
        return self.state == "PENDING" and re.search("held|hold", self.reason.lower()) is not None

    def why(self) -> str:
        """Why it ended, in words."""
        if self.reason == NEVER:
            return "what it waited for failed"
        return ENDED.get(self.state, UNKNOWN)


def new_record(name: str) -> Record:
    """That of a study of which nothing was submitted."""
    return Record(f"tlx-{re.sub('[^A-Za-z0-9_.-]', '-', name)[:24]}-{secrets.token_hex(4)}")


def read(workdir: Path) -> Record | None:
    """What was submitted; None where nothing was.

    Raises:
      ValueError: the file is damaged.
    """
    path = workdir / FILE
    if not path.exists():
        return None
    try:
        values: Any = json.loads(path.read_text())
        name, arrays = values["name"], tuple(_submitted(each) for each in values["arrays"])
        if not (isinstance(name, str) and re.fullmatch(r"tlx-[A-Za-z0-9_.-]+", name)):
            raise ValueError(f"name {name!r}")
        return Record(name, arrays)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected the jobs of a study, got a damaged file ({error}); cancel them by "
            "scancel if there are any, and delete it"
        ) from error


def _submitted(value: Any) -> Submitted:
    """Jobs as the file has them.

    Raises:
      ValueError: they are not in this form; KeyError and TypeError, too.
    """
    number, jobs = value["id"], value["jobs"]
    if not (isinstance(number, str) and re.fullmatch(r"[0-9]+", number)):
        raise ValueError(f"id {number!r}")
    lists = [jobs, *jobs] if isinstance(jobs, list) else [None]
    if not all(isinstance(each, list) and each for each in lists):
        raise ValueError(f"jobs {jobs!r}")
    if not all(type(part) is int and part >= 0 for job in jobs for part in job):
        raise ValueError(f"jobs {jobs!r}")
    return Submitted(number, tuple(map(tuple, jobs)))


def require_parts(workdir: Path, record: Record, count: int) -> None:
    """Raises where jobs do parts that a study of so many has not.

    Raises:
      ValueError: they do.
    """
    most = max(record.job_of(), default=-1)
    if most >= count:
        raise ValueError(
            f"{workdir / FILE}: expected jobs of the study's {count} parts, got one of part "
            f"{most + 1}: another version of tlx made it, which does the study in other parts; "
            f"cancel its jobs (scancel --name={record.name}) and delete the file"
        )


def log_of(workdir: Path, job: str) -> Path:
    """What a job says."""
    return workdir / LOGS / f"{job}_0_log.out"


def write(workdir: Path, record: Record) -> None:
    """Keeps what was submitted."""
    arrays = [array._asdict() for array in record.arrays]
    text = json.dumps({"name": record.name, "arrays": arrays}) + "\n"
    metrics_log.replace_text(workdir / FILE, text)


def states(record: Record) -> dict[str, State]:
    """How it is with the jobs of a study, by their ids; those that Slurm has forgotten lack.

    Raises:
      ValueError: there is no Slurm here, or it does not answer.
    """
    shown = ("--noheader", "--array", "--states=all", "--format=%i|%T|%N|%r")
    said = ask("squeue", *shown, f"--name={record.name}")
    ours = (line for line in _lines(said) if re.match(r"[0-9]+(_[0-9]+)?\|(.*\|){2}", line))
    rows = (line.split("|", 3) for line in ours)  # a reason may have any letters
    found = {job: State(state, reason, node) for job, state, node, reason in rows}
    forgotten = {job for a in record.arrays for job in a.ids} - found.keys()
    return found | _accounted(forgotten)


def _accounted(jobs: Collection[str]) -> dict[str, State]:
    """How jobs ended that are in the queue no more, where the cluster keeps accounts."""
    if not jobs or shutil.which("sacct") is None:
        return {}
    wanted = ",".join(sorted({job.partition("_")[0] for job in jobs}))
    shown = ("--noheader", "--parsable2", "--allocations", "--format=JobID,State")
    words = ["sacct", *shown, f"--jobs={wanted}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    pairs = (line.partition("|") for line in done.stdout.splitlines() if not done.returncode)
    words_of = {job: state.split()[:1] for job, _, state in pairs}  # "CANCELLED by 1000"
    # one that only the accounts call running is lost: the controller, which was asked, knows better
    return {job: State(*w) for job, w in words_of.items() if job in jobs and ENDED.keys() & w}


def queued(
    record: Record,
    states: Mapping[str, State],
    parts: Sequence[Part],
    done: Collection[int],
) -> set[int]:
    """The numbers of parts that jobs in the queue do; not of jobs that wait for what nobody does.

    Args:
      record: what was submitted.
      states: of the jobs.
      parts: all of the study.
      done: numbers of those that are done.
    """
    job_of = record.job_of()
    found = set[int]()
    for array in record.arrays:
        for job, numbers in zip(array.ids, array.jobs, strict=True):
            state, known = states.get(job), found.union(done, numbers)
            if state is None or not state.is_queued:
                continue
            if state.state != "PENDING" or all(parts[n].needs <= known for n in numbers):
                found.update(number for number in numbers if job_of[number] == job)
    return found


def require_idle(workdir: Path) -> None:
    """Raises where jobs of the study are in the queue, and would do what this process does.

    Raises:
      ValueError: there are; or Slurm, which knows, cannot be asked here.
    """
    record = read(workdir)
    if record is None:
        return
    if shutil.which("squeue") is None:
        raise ValueError(
            f"jobs of Slurm were submitted from {workdir}, and there is no squeue here to ask "
            f"whether they still do this study; delete {workdir / FILE} if they do not"
        )
    waiting = sorted(job for job, state in states(record).items() if state.is_queued)
    if waiting:
        raise ValueError(
            f"expected no job to do this study, got {len(waiting)} in Slurm's queue (first "
            f"{waiting[0]}); wait for them (tlx status --workdir={workdir}), or cancel them: "
            f"scancel --name={record.name}"
        )


def most_jobs() -> int:
    """How many jobs one array may have on this cluster, by its own words.

    Raises:
      ValueError: there is no Slurm here, or it does not answer.
    """
    said = ask("scontrol", "show", "config")
    patterns = (r"^MaxArraySize\s*=\s*(\d+)", r"^SchedulerParameters.*max_array_tasks=(\d+)")
    found = [int(m[1]) for p in patterns if (m := re.search(p, said, re.MULTILINE))]
    return max(1, min(found, default=1))


def is_preempted(job: str) -> bool:
    """Whether Slurm takes away what a job has; if it ends by itself then, it counts as failed."""
    try:
        return re.search(r"\bPreemptTime=\d", ask("scontrol", "show", "job", job)) is not None
    except ValueError:
        return False


def cancel(record: Record, jobs: Collection[str]) -> str:
    """Has Slurm drop jobs; those that are no more do not matter.

    Returns:
      what Slurm calls waiting until they have ended, since those that run save first; "" where
      none does.
    """
    if not jobs:
        return ""
    ask("scancel", "--quiet", *sorted(jobs))
    found = states(record)  # which may have begun meanwhile
    ending = [j for j in sorted(jobs) if j in found and found[j].state not in (*ENDED, "PENDING")]
    return "afterany:" + ":".join(ending) if ending else ""


def forget_refused(workdir: Path) -> None:
    """Deletes the files of jobs that Slurm did not take; as the one that submits."""
    for path in (workdir / LOGS).iterdir():
        if not path.is_symlink() and re.fullmatch(_REFUSED, path.name):
            path.unlink(missing_ok=True)


def ask(*words: str) -> str:
    """What a command of Slurm says.

    Raises:
      ValueError: it is not there, or fails.
    """
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ValueError(
            f"expected Slurm's {words[0]} on this machine, got none; give the command on a login "
            "node of the cluster"
        ) from None
    if done.returncode:
        said = next(_lines(done.stderr), f"exit status {done.returncode}")
        raise ValueError(f"expected {words[0]} of Slurm to answer, got: {said}")
    return done.stdout


def _lines(text: str) -> Iterator[str]:
    return (line.strip() for line in text.splitlines() if line.strip())
