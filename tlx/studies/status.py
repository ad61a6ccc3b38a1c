"""How it is with a study or a run: what is done, under way, waiting or failed, and why.

Reads what is in the workdir and, where jobs were submitted, asks Slurm; writes nothing.
"""

import collections
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tlx.checkpoints import owner
from tlx.report.words.table import Table
from tlx.studies import cluster, graph, marks, progress
from tlx.studies import workdir as files
from tlx.studies.cluster import Record
from tlx.studies.graph import Task, Training
from tlx.studies.marks import Mark
from tlx.studies.runs import Run
from tlx.train import metrics_log
from tlx.train import workdir as run_files

STATES = ("done", "running", "waiting", "failed", "left")
MOST_SHOWN = 12
"""Lines about parts that are running, or that failed."""

ORDINARY = ("", "None", "Dependency", "Priority", "Resources", "JobArrayTaskLimit")
"""Reasons of jobs that wait, in Slurm's words, which pass by themselves."""

_RELEASE = "scontrol release"


class Item(NamedTuple):
    """A part.

    Attributes:
      name: of it.
      row: what it is counted among.
      state: "done"; "running"; "waiting" for a process that will do it; "failed"; "left", where
        nobody will.
      detail: how far it is, or why it waits, failed or was stopped.
      by: which job or process does it, or failed.
      rate: steps a second of a run; 0 where it is not known.
      seconds_left: until it is done; None where that is not known.
    """

    name: str
    row: str
    state: str
    detail: str = ""
    by: str = ""
    rate: float = 0.0
    seconds_left: float | None = None


class Status(NamedTuple):
    """How it is with a study or a run.

    Attributes:
      name: of it.
      workdir: its folder.
      items: its parts.
      notes: what could not be found out, in sentences.
    """

    name: str
    workdir: str
    items: tuple[Item, ...]
    notes: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        """0 where all is done, 1 where something failed, else 3."""
        found = {item.state for item in self.items}
        return 0 if found == {"done"} else 1 if "failed" in found else 3

    def json(self) -> dict[str, Any]:
        """As an object of JSON."""
        return {**self._asdict(), "items": [item._asdict() for item in self.items]}

    def text(self) -> str:
        """For people."""
        of = {state: [i for i in self.items if i.state == state] for state in STATES}
        count = f"{len(of['done'])} of {len(self.items)} parts are done"
        blocks = [f"{self.name} in {self.workdir}: {count}"] if len(self.items) > 1 else []
        if len(self.items) > 1:
            blocks.append(_counts(self.items))
        stopped = [item for item in of["left"] if item.detail]
        blocks += _block("running", _under_way(of["running"]))
        blocks += _block("stopped", _under_way(stopped))
        waiting = [item for item in of["waiting"] if item.detail not in ORDINARY]
        blocks += _block("waiting", _by_reason(waiting))
        blocks += _block("failed", _by_reason(of["failed"]))
        return "\n\n".join([*blocks, *self.notes, _next(of, self)])


def of(workdir: Path) -> Status:
    """How it is with the study or the run in a folder.

    Raises:
      ValueError: there is neither, or its files are damaged.
    """
    is_run = (workdir / run_files.CONFIG_FILE).exists()
    if is_run and not (workdir / files.CONFIG_FILE).exists():
        return _of_run(workdir)
    spec = files.read(workdir, checks=False)
    tasks = files.tasks(spec, workdir)
    found = _Found(workdir, tasks)
    items = tuple(found.item(number) for number in range(len(tasks)))
    return Status(spec.name, str(workdir), items, tuple(found.notes))


class _Found:
    """What can be found out about the parts of a study."""

    def __init__(self, workdir: Path, tasks: Sequence[Task]) -> None:
        self._workdir, self._tasks, self.notes = workdir, tasks, list[str]()
        self._marks = marks.read(files.marks_of(workdir))
        self._parts = graph.parts(tasks)
        record = cluster.read(workdir) or Record("")
        self._states = self._asked(record)
        self._job_of = record.job_of()
        self._is_held = owner.writer(workdir) is not None
        cluster.require_parts(workdir, record, len(tasks))
        self._done = graph.done(tasks)  # last, since parts end meanwhile
        self._queued = cluster.queued(record, self._states, self._parts, self._done)
        self._stuck = {job for number, job in self._job_of.items() if self._is_stuck(number)}

    def _is_stuck(self, number: int) -> bool:
        """Whether a part waits for what nobody does."""
        job = self._job_of.get(number)
        needs = self._parts[number].needs
        others = (n for n in needs if job is None or self._job_of.get(n) != job)
        return not all(n in self._done or n in self._queued for n in others)

    def _asked(self, record: Record) -> Mapping[str, cluster.State]:
        if not record.arrays:
            return {}
        try:
            return cluster.states(record)
        except ValueError as error:
            self.notes.append(f"how it is with the jobs of {cluster.FILE} is not known: {error}")
            return {}

    def item(self, number: int) -> Item:
        """A part."""
        task = self._tasks[number]
        item = Item(task.name, graph.row_of(task), "left")
        mark, job = self._marks.get(number), self._job_of.get(number, "")
        if number in self._done:
            return item._replace(state="done")
        if number in self._queued:
            return self._of_job(item, task, mark, job)
        if self._is_held:
            if mark is None or mark.error:  # which is tried again
                return item._replace(state="waiting")
            return _of_mark(item._replace(state="running"), task, mark)
        if self._is_stuck(number) or (job and job in self._stuck):
            return item
        if mark is not None and mark.error:
            return _of_mark(item, task, mark)
        if job and not self.notes:
            state = self._states.get(job, cluster.State(""))
            if state.state == "CANCELLED":  # as Ctrl-C does: nothing is to be mended
                so_far = "" if mark is None else mark.detail
                detail = ", ".join(filter(None, (so_far, state.why())))
                return item._replace(detail=detail, by=f"job {job}")
            said = _last_line(self._workdir, job)
            why = state.why() + (f" ({said})" if said else "")
            return item._replace(state="failed", detail=why, by=f"job {job}")
        return item if mark is None else item._replace(detail=mark.detail)

    def _of_job(self, item: Item, task: Task, mark: Mark | None, job: str) -> Item:
        state = self._states[job]
        if mark is None or mark.job != job or not state.is_running:
            return item._replace(state="waiting", by=f"job {job}", detail=_reason(state, job))
        found = _of_mark(item._replace(state="running"), task, mark)
        return found._replace(by=f"job {job} on {state.node}")


def _reason(state: cluster.State, job: str) -> str:
    """Why a job waits, and what has it go on where that does not come by itself."""
    if not state.is_held:
        return state.reason
    named = ", ".join(
        word for word in (state.state, state.reason) if word not in ("PENDING", *ORDINARY)
    )
    who = " by an administrator of the cluster" if state.reason == "JobHeldAdmin" else ""
    return f"{named}: it is held until {_RELEASE} {job}{who}; or scancel {job}, and tlx study again"


def _of_mark(item: Item, task: Task, mark: Mark) -> Item:
    by = f"job {mark.job}, {mark.process}" if mark.job else mark.process
    if mark.error:
        return item._replace(state="failed", detail=mark.error, by=by)
    rate = mark.rate * task.weight if isinstance(task, Training) else 0.0
    return item._replace(detail=mark.detail, by=by, rate=rate, seconds_left=mark.seconds_left)


def _of_run(workdir: Path) -> Status:
    spec = run_files.read_config(workdir, checks=False)
    task = Training(Run(spec.name, spec.kind, 1, workdir, spec))
    item = Item(task.name, graph.row_of(task), "left")
    lines = metrics_log.read(workdir)
    if lines:
        item = item._replace(detail=f"step {lines[-1]['step']} of {spec.num_steps}")
    by = owner.writer(workdir)
    if run_files.read_result(workdir) is not None:
        item = item._replace(state="done")
    elif by is not None:
        item = item._replace(state="running", by=by)
    return Status(spec.name, str(workdir), (item,))


def _last_line(workdir: Path, job: str) -> str:
    """The last line that a job said; "" where there is none."""
    try:
        log = cluster.log_of(workdir, job).read_text(errors="replace")
        lines = log.strip().splitlines()
    except OSError:
        return ""
    return lines[-1].strip() if lines else ""


def _counts(items: Sequence[Item]) -> str:
    of_row: dict[str, collections.Counter[str]] = {}
    for item in items:
        of_row.setdefault(item.row, collections.Counter())[item.state] += 1
    whole = sum(of_row.values(), collections.Counter[str]())
    shown = [state for state in STATES if whole[state]]
    rows = [
        (name, str(counts.total()), *(str(counts[state] or "") for state in shown))
        for name, counts in [*of_row.items(), ("in all", whole)]
    ]
    return Table(("what", "parts", *shown), tuple(rows)).text()


def _block(title: str, found: Iterable[str]) -> list[str]:
    """Lines under a title; none where there are none."""
    lines = list(found)
    more = [f"  and {len(lines) - MOST_SHOWN} more (--json lists all)"] * (len(lines) > MOST_SHOWN)
    return ["\n".join([f"{title}:", *lines[:MOST_SHOWN], *more])] if lines else []


def _under_way(items: Sequence[Item]) -> Iterator[str]:
    for item in items:
        rate = f"{item.rate:.3g} steps/s" if item.rate else ""
        left = item.seconds_left
        about = "" if left is None else f"about {progress.clock(left)} left"
        how_far = ", ".join(word.strip() for word in item.detail.split("  ") if word)
        words = (item.name, how_far, rate, about, item.by)
        yield f"  {', '.join(filter(None, words))}"


def _by_reason(items: Sequence[Item]) -> Iterator[str]:
    """One line for all that wait for, or failed of, the same."""
    names: dict[tuple[str, str], list[str]] = {}
    for item in items:
        names.setdefault((item.detail, item.by), []).append(item.name)
    for (detail, by), found in names.items():
        unique = list(dict.fromkeys(found))
        more = f" and {len(unique) - 3} more" if len(unique) > 3 else ""
        yield f"  {', '.join(unique[:3])}{more}: {detail}  [{by}]"


def _next(of: Mapping[str, Collection[Item]], status: Status) -> str:
    """What to do, or to wait for."""
    if status.exit_status == 0:
        return "all is done"
    if status.notes and (of["failed"] or of["left"]):
        return (
            "whether somebody is at it is not known here: ask again on a login node of the cluster "
            "before anything is done about it"
        )
    if of["failed"]:
        return "mend the cause, and give the command again: what is done stays"
    if of["left"] and not (of["running"] or of["waiting"]):
        return "nobody is at it: give the command again, which goes on from here"
    if any(_RELEASE in item.detail for item in of["waiting"]):
        return "what is held waits until it is released, and what needs it; the rest goes on"
    return "it goes on"
