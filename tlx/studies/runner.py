"""A whole study on this machine, in one process: runs, records, page.

Nothing that is done is done again: a finished run is recognised by its result, a
stopped one goes on from its last checkpoint, an answered question by its record.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tlx import records
from tlx.config import serial
from tlx.report import page
from tlx.studies import plan, question
from tlx.studies.progress import Progress
from tlx.studies.question import Question
from tlx.studies.runs import Plan, Run
from tlx.studies.spec import StudySpec
from tlx.train import distributed, initial, metrics_log
from tlx.train.loop import train
from tlx.train.spec import RunSpec
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


def run(spec: StudySpec, workdir: Path, *, progress: Progress | None = None) -> StudyResult:
    """Does what is left of a study, and draws its page.

    Args:
      spec: the study.
      workdir: its folder: study.json, runs/, records/, report.html.
      progress: shows how far it is; by default on standard error.

    Raises:
      ValueError: if the workdir holds another study, or the config cannot run; before any
        work.
    """
    started = time.perf_counter()
    if spec.pretrain.init_from is not None:
        initial.find_origin(spec.pretrain.init_from)  # before anything is written
    _claim(spec, workdir)
    planned = plan.make(spec, workdir)
    asked = {name: one for name, one in spec.asked().items() if one.subjects(planned)}
    total = sum(map(_train_weight, planned.runs))
    total += sum(_answer_weight(one, planned) for one in asked.values())
    progress = progress or Progress(total)
    for each in planned.runs:
        _train(each, progress)
    root = workdir / "records"
    if distributed.is_primary():  # training is shared, the questions are small
        for name, one in asked.items():
            _answer(root, name, one, planned, progress)
        redraw(workdir)
    distributed.wait_for_all("study done")
    return StudyResult(workdir / PAGE_FILE, root, time.perf_counter() - started)


def run_one(spec: RunSpec, workdir: Path, *, progress: Progress | None = None) -> RunResult:
    """One training run, with its progress shown.

    Raises:
      ValueError: if the config cannot run or the workdir holds another one; before any work.
    """
    if spec.kind.startswith("P-T") and spec.init_from is None:
        raise ValueError(
            f"a run of kind {spec.kind} starts from pretrained weights, and init_from names none; "
            "give --config.init_from.workdir=WORKDIR, or a config's argument for it"
        )
    if spec.kind.startswith("RI") and spec.init_from is not None:
        raise ValueError(
            f"a run of kind {spec.kind} starts from random weights, and init_from names others; "
            "leave it out, or call the run P-T"
        )
    only = Run(spec.name, spec.kind, 1, workdir, spec)
    return _train(only, progress or Progress(_train_weight(only)))


def redraw(workdir: Path) -> Path:
    """The path of a study's page, drawn again from its records.

    Raises:
      ValueError: if there is no study in the workdir.
    """
    path = workdir / CONFIG_FILE
    if not path.exists():
        raise ValueError(f"no {path}: expected the workdir of a study; run tlx study first")
    title = _read_config(path)["title"]
    return page.write(workdir / "records", workdir / PAGE_FILE, title=title)


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


def _train_weight(run: Run) -> float:
    """What a run counts for in the time left: its steps."""
    return max(1.0, float(run.spec.num_steps))


def _answer_weight(asked: Question, planned: Plan) -> float:
    """What a question counts for in the time left, in training steps."""
    return asked.weight * len(asked.subjects(planned))


def _answer(root: Path, name: str, asked: Question, planned: Plan, progress: Progress) -> None:
    progress.start(name, _answer_weight(asked, planned))
    subjects, computed = asked.subjects(planned), 0
    for i, subject in enumerate(subjects):
        progress.part(i / len(subjects), f"{i} of {len(subjects)}")
        computed += question.ask(root, name, asked, subject)[1]
    progress.finish(f"{len(subjects)} records", worked=computed > 0)


def _train(run: Run, progress: Progress) -> RunResult:
    progress.start(f"train {run.name}", _train_weight(run))
    was_done = read_result(run.workdir) is not None

    def show(step: int, num_steps: int, numbers: Mapping[str, float]) -> None:
        accuracy = numbers.get("test_accuracy")
        detail = "" if accuracy is None else f"test accuracy {accuracy:.3f}"
        progress.part(step / max(num_steps, 1), f"step {step} of {num_steps}  {detail}")

    result = train(run.spec, run.workdir, progress=show)
    progress.finish(f"test accuracy {result.test['accuracy']:.3f}", worked=not was_done)
    return result


def _claim(spec: StudySpec, workdir: Path) -> None:
    """Makes the workdir this study's, or checks that it is."""
    path = workdir / CONFIG_FILE
    ours = json.loads(records.canonical_json(spec.saved()))
    if not path.exists():
        workdir.mkdir(parents=True, exist_ok=True)
        metrics_log.replace_text(path, json.dumps(ours, indent=2) + "\n")
        return
    differing = serial.differences(_read_config(path), ours)
    if differing:
        raise ValueError(
            f"{workdir} holds a study with another config; differing:\n"
            + "\n".join(f"  {line}" for line in differing)
            + "\nChoose another workdir, or delete that one to start anew."
        )
