"""A whole study on this machine, in one process or in several: runs, records, page.

Nothing that is done is done again: a finished run is recognised by its result, a
stopped one goes on from its last checkpoint, an answered question by its record.
"""

import collections
import contextlib
import functools
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tlx import config, records
from tlx.checkpoints import owner
from tlx.report import page
from tlx.studies import cluster, graph, marks, pool, resources
from tlx.studies import workdir as files
from tlx.studies.graph import Done, Task, Told, Training
from tlx.studies.progress import Progress
from tlx.studies.runs import Run
from tlx.studies.spec import StudySpec
from tlx.train import distributed, initial, stopping, trackers
from tlx.train.spec import RunSpec
from tlx.train.tracing import Trace
from tlx.train.workdir import RunResult, read_result


class StudyResult(NamedTuple):
    """What came out of a study.

    Attributes:
      page: the path of the report.
      records: the folder of the records.
      seconds: of this call.
    """

    page: Path
    records: Path
    seconds: float


def run(
    spec: StudySpec,
    workdir: Path,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    log_to: Sequence[str] = (),
    config_file: str | None = None,
) -> StudyResult:
    """Does what is left of a study, and draws its page.

    Args:
      spec: the study.
      workdir: its folder: study.json, runs/, records/, report.html.
      workers: processes that train and answer side by side, on one machine, each in one thread;
        `tlx.studies.resources.workers` says how many there is room for. The numbers are the same
        for any. They import the script that calls this, so there the call stands below
        `if __name__ == "__main__":`. None, or on an accelerator: this process alone, with its
        devices and threads.
      progress: shows how far it is; by default on standard error.
      log_to: where the numbers of its runs go besides, "tensorboard" or "wandb".
      config_file: what `tlx.config.load` read the study from; the processes load it too where
        the study names a model or data that only it registers.

    Raises:
      ValueError: if the workdir holds another study, the config cannot run, or a tracker is not
        installed; before any work.
      tlx.checkpoints.owner.BusyError: another process runs a study there.
      tlx.train.stopping.Stopped: SIGTERM or SIGINT asked to stop; runs under way were saved.
      tlx.studies.pool.WorkerDiedError: a process was killed or crashed, and the one after it too.
    """
    started = time.perf_counter()
    if workers is not None and workers < 1:
        raise ValueError(f"workers: expected at least 1 process, got {workers}")
    trackers.require(log_to)
    if spec.pretrain.init_from is not None:
        initial.find_origin(spec.pretrain.init_from)  # before anything is written
    tasks = files.tasks(spec, workdir, asks=distributed.is_primary(), log_to=log_to)
    with contextlib.ExitStack() as stack:
        stack.enter_context(stopping.raised())
        if distributed.is_primary():
            stack.enter_context(owner.hold(workdir, tell=logging.getLogger("tlx").warning))
            files.claim(spec, workdir)
            cluster.require_idle(workdir)
            marks.forget_running(files.marks_of(workdir))
        shown = _shown(tasks, range(len(tasks)), workdir, progress)
        chosen = _Chosen(spec, workdir, tuple(range(len(tasks))), tuple(log_to), config_file)
        _do(chosen, tasks, shown, workers)
        if distributed.is_primary():
            records.sweep(files.records_of(workdir))
    distributed.wait_for_all("study done")
    seconds = time.perf_counter() - started
    return StudyResult(files.page_of(workdir), files.records_of(workdir), seconds)


def run_some(
    workdir: Path,
    numbers: Sequence[int],
    *,
    workers: int,
    digest: str,
    log_to: Sequence[str] = (),
    job: str = "",
    config_file: str | None = None,
) -> None:
    """Does some parts of a study, those that they need being done: what a job of a cluster does.

    Several processes may do so in one workdir, each its own parts: a run has one writer (see
    `tlx.checkpoints.owner`), a record appears whole.

    Args:
      workdir: the study's.
      numbers: of the parts, see `tlx.studies.workdir.tasks`.
      workers: as in `run`; where there is an accelerator this process does all.
      digest: of the tasks that have these numbers.
      log_to: as in `run`.
      job: of the scheduler, which `tlx status` names.
      config_file: as in `run`.

    Raises:
      ValueError: there is no study, it cannot run here, or the numbers are of another version.
      tlx.train.stopping.Stopped: as `run`.
    """
    with stopping.raised():
        try:
            _load_if_needed(files.read(workdir, checks=False), config_file)
            spec = files.read(workdir)
            tasks = files.tasks(spec, workdir, log_to=log_to)
            if files.digest(tasks) != digest:
                raise ValueError(
                    "expected the tlx that submitted this job, got another, which does the study "
                    "in other parts; cancel its jobs and submit it again"
                )
        except Exception as error:
            mark_failed(workdir, numbers, error, job=job)
            raise
        shown = _shown(tasks, numbers, workdir, None, job=job)
        chosen = _Chosen(spec, workdir, tuple(numbers), tuple(log_to), config_file)
        _do(chosen, tasks, shown, workers, more_memory="--slurm=mem=…" if job else "--workers=1")


def mark_failed(workdir: Path, numbers: Sequence[int], error: Exception, *, job: str) -> None:
    """Says of parts that they cannot be done, where they were not begun."""
    made = marks.Marks(files.marks_of(workdir), job=job)
    for number in numbers:
        made.failed(number, error)


def run_one(
    spec: RunSpec,
    workdir: Path,
    *,
    progress: Progress | None = None,
    log_to: Sequence[str] = (),
    trace: Trace | None = None,
) -> RunResult:
    """One training run, with its progress shown; the options are those of `tlx.train.loop.train`.

    Raises:
      ValueError: if the config cannot run or the workdir holds another one; before any work.
    """
    if spec.kind.startswith(("P-T", "S-T", "C-T")) and spec.init_from is None:
        raise ValueError(
            f"a run of kind {spec.kind} starts from pretrained weights, and init_from names none; "
            "give --config.init_from.workdir=WORKDIR, or a config's argument for it"
        )
    if spec.kind.startswith("RI") and spec.init_from is not None:
        raise ValueError(
            f"a run of kind {spec.kind} starts from random weights, and init_from names others; "
            "leave it out, or call the run P-T"
        )
    if trace is not None and max(trace.step, 1) >= spec.num_steps:
        raise ValueError(
            f"trace: expected steps after the first and up to num_steps ({spec.num_steps}), got "
            f"those after step {trace.step}"
        )
    only = Training(Run(spec.name, spec.kind, 1, workdir, spec), tuple(log_to), trace)
    shown = _Shown({0: only}, progress or Progress(only.weight), None)
    pool.run_here(graph.parts([only]), lambda: lambda number, tell: only.do(tell), shown)
    result = read_result(workdir)
    assert result is not None  # it is done
    return result


def redraw(workdir: Path) -> Path:
    """The path of a study's page, drawn again from its records.

    Raises:
      ValueError: if there is no study in the workdir.
    """
    title = files.read_config(workdir)["title"]
    return page.write(files.records_of(workdir), files.page_of(workdir), title=title)


class _Chosen(NamedTuple):
    """Parts of a study, which a process is told by their numbers."""

    spec: StudySpec
    workdir: Path
    numbers: tuple[int, ...]
    log_to: tuple[str, ...] = ()
    config_file: str | None = None

    def work(self) -> pool.Work:
        """What does them, in a process of its own."""
        for name in ("absl", "asyncio"):  # what orbax raises, the parent tells
            logging.getLogger(name).setLevel(logging.CRITICAL)
        _load_if_needed(self.spec, self.config_file)
        return self.work_of(files.tasks(self.spec, self.workdir, log_to=self.log_to))

    def work_of(self, tasks: Sequence[Task]) -> pool.Work:
        """What does them, of all tasks."""
        return lambda number, tell: tasks[self.numbers[number]].do(tell)


def _load_if_needed(spec: StudySpec, config_file: str | None) -> None:
    """Loads the config of a study that cannot be done without; others may have changed since."""
    if config_file is not None and spec.problems():
        config.load(config_file)


def _do(
    chosen: _Chosen,
    tasks: Sequence[Task],
    shown: "_Shown",
    workers: int | None,
    *,
    more_memory: str = "--workers=1",
) -> None:
    parts = graph.only(graph.parts(tasks), chosen.numbers)
    if workers is None or resources.workers() is None:
        pool.run_here(parts, functools.partial(chosen.work_of, tasks), shown)
    else:
        environment = resources.environment()
        pool.run(
            parts, chosen.work, shown, workers, environment=environment, more_memory=more_memory
        )


def _shown(
    tasks: Sequence[Task],
    numbers: Sequence[int],
    workdir: Path,
    progress: Progress | None,
    *,
    job: str = "",
) -> "_Shown":
    chosen = {number: tasks[number] for number in numbers}
    progress = progress or Progress(sum(task.weight for task in chosen.values()))
    made = marks.Marks(files.marks_of(workdir), job=job) if distributed.is_primary() else None
    return _Shown(chosen, progress, made)


class _Shown(pool.Watcher):
    """Shows tasks as they are done: those of one name as one; and marks each."""

    def __init__(
        self, chosen: Mapping[int, Task], progress: Progress, made: marks.Marks | None
    ) -> None:
        self._numbers, tasks = list(chosen), list(chosen.values())
        self._tasks, self._progress, self._marks = tasks, progress, made
        self._weights = collections.defaultdict[str, float](float)
        for task in tasks:
            self._weights[task.name] += task.weight
        self._counts = collections.Counter(task.name for task in tasks)
        self._begun: set[str] = set()
        self._done = collections.Counter[str]()
        self._worked: set[str] = set()

    def begun(self, number: int) -> None:
        name = self._tasks[number].name
        if self._marks:
            self._marks.begun(self._numbers[number])
        if name not in self._begun:
            self._begun.add(name)
            self._progress.start(name, self._weights[name])

    def told(self, number: int, said: Told) -> None:
        self._progress.part(self._tasks[number].name, said.fraction, said.detail)
        if self._marks:
            self._marks.told(self._numbers[number], said.fraction, said.detail)

    def failed(self, number: int, error: BaseException) -> None:
        if self._marks:
            self._marks.failed(self._numbers[number], error)

    def done(self, number: int, result: Done) -> None:
        name = self._tasks[number].name
        if self._marks:
            self._marks.done(self._numbers[number])
        self._done[name] += 1
        if result.worked:
            self._worked.add(name)
        of, so_far = self._counts[name], self._done[name]
        if so_far < of:
            self._progress.part(name, so_far / of, f"{so_far} of {of}")
        else:
            detail = result.detail or f"{of} record{'s' * (of > 1)}"
            self._progress.finish(name, detail, worked=name in self._worked)

    def died(self, number: int, status: int) -> None:
        name = self._tasks[number].name
        self._progress.say(f"the process at {name} ended with status {status}; it is begun again")
