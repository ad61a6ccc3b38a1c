"""A whole study on this machine, in one process or in several: runs, records, page.

Nothing that is done is done again: a finished run is recognised by its result, a
stopped one goes on from its last checkpoint, an answered question by its record.
"""

import collections
import contextlib
import functools
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tlx import records
from tlx.checkpoints import owner
from tlx.config import serial, typed
from tlx.report import page
from tlx.studies import graph, plan, pool, resources
from tlx.studies.graph import Done, Task, Told, Training
from tlx.studies.progress import Progress
from tlx.studies.runs import Run
from tlx.studies.spec import StudySpec
from tlx.train import distributed, initial, metrics_log, stopping, trackers
from tlx.train.spec import RunSpec
from tlx.train.tracing import Trace
from tlx.train.workdir import RunResult, read_result

CONFIG_FILE = "study.json"
PAGE_FILE = "report.html"


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
    _claim(spec, workdir)
    tasks = _tasks(spec, workdir, tuple(log_to))
    parts = graph.parts(tasks)
    shown = _Shown(tasks, progress or Progress(sum(task.weight for task in tasks)))
    with contextlib.ExitStack() as stack:
        stack.enter_context(stopping.raised())
        if distributed.is_primary():
            stack.enter_context(owner.hold(workdir, tell=logging.getLogger("tlx").warning))
        if workers is None or resources.workers() is None:
            pool.run_here(parts, functools.partial(_work, tasks), shown)
        else:
            work = functools.partial(_work_anew, spec, workdir, tuple(log_to))
            pool.run(parts, work, shown, workers, environment=resources.environment())
        if distributed.is_primary():
            redraw(workdir)
    distributed.wait_for_all("study done")
    return StudyResult(workdir / PAGE_FILE, _records(workdir), time.perf_counter() - started)


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
    if trace is not None and trace.step >= spec.num_steps - 1:
        raise ValueError(
            f"trace: expected steps after the first and before num_steps ({spec.num_steps}), got "
            f"those after step {trace.step}"
        )
    only = Training(Run(spec.name, spec.kind, 1, workdir, spec), tuple(log_to), trace)
    shown = _Shown([only], progress or Progress(only.weight))
    pool.run_here(graph.parts([only]), functools.partial(_work, [only]), shown)
    result = read_result(workdir)
    assert result is not None  # it is done
    return result


def redraw(workdir: Path) -> Path:
    """The path of a study's page, drawn again from its records.

    Raises:
      ValueError: if there is no study in the workdir.
    """
    path = workdir / CONFIG_FILE
    if not path.exists():
        raise ValueError(f"no {path}: expected the workdir of a study; run tlx study first")
    title = _read_config(path)["title"]
    return page.write(_records(workdir), workdir / PAGE_FILE, title=title)


def _read_config(path: Path) -> dict[str, Any]:
    """The saved config of a study."""
    try:
        config = json.loads(path.read_text())
        if isinstance(config, dict) and isinstance(config.get("title"), str):
            return config
        reason = "it lacks the title"
    except ValueError as error:
        reason = str(error)
    raise ValueError(
        f"{path} is not the config of a study ({reason}); delete it, and give tlx study the "
        "config again"
    )


def _records(workdir: Path) -> Path:
    return workdir / "records"


def _tasks(spec: StudySpec, workdir: Path, log_to: tuple[str, ...] = ()) -> list[Task]:
    """What this process knows of: in a distributed study the first one alone asks questions."""
    asked = spec.asked() if distributed.is_primary() else {}
    return graph.tasks(plan.make(spec, workdir), asked, _records(workdir), log_to)


def _work(tasks: list[Task]) -> pool.Work:
    return lambda number, tell: tasks[number].do(tell)


def _work_anew(spec: StudySpec, workdir: Path, log_to: tuple[str, ...]) -> pool.Work:
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # what orbax raises, the parent tells
    return _work(_tasks(spec, workdir, log_to))


def _saved(spec: StudySpec) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(records.canonical_json(spec.saved()))
    return found


class _Shown(pool.Watcher):
    """Shows tasks as they are done: those of one name as one."""

    def __init__(self, tasks: list[Task], progress: Progress) -> None:
        self._tasks, self._progress = tasks, progress
        self._weights = collections.defaultdict[str, float](float)
        for task in tasks:
            self._weights[task.name] += task.weight
        self._counts = collections.Counter(task.name for task in tasks)
        self._begun: set[str] = set()
        self._done = collections.Counter[str]()
        self._worked: set[str] = set()

    def begun(self, number: int) -> None:
        name = self._tasks[number].name
        if name not in self._begun:
            self._begun.add(name)
            self._progress.start(name, self._weights[name])

    def told(self, number: int, said: Told) -> None:
        self._progress.part(self._tasks[number].name, said.fraction, said.detail)

    def done(self, number: int, result: Done) -> None:
        name = self._tasks[number].name
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


def _claim(spec: StudySpec, workdir: Path) -> None:
    """Makes the workdir this study's, or checks that it is."""
    path = workdir / CONFIG_FILE
    ours = _saved(spec)
    if not path.exists():
        workdir.mkdir(parents=True, exist_ok=True)
        metrics_log.replace_text(path, json.dumps(ours, indent=2) + "\n")
        return
    theirs = _read_config(path)
    whole = typed.completed(StudySpec, theirs)
    differing = serial.differences(theirs if whole is None else _saved(whole), ours)
    if differing:
        raise ValueError(
            f"{workdir} holds a study with another config; differing:\n"
            + "\n".join(f"  {line}" for line in differing)
            + "\nChoose another workdir, or delete that one to start anew."
        )
