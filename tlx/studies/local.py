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
from tlx.report import page
from tlx.studies import agenda, asking, plan
from tlx.studies.progress import Progress
from tlx.studies.spec import StudySpec
from tlx.train import distributed, initial, metrics_log, serial
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
      progress: what tells how far it is; by default on standard error.

    Raises:
      ValueError: if the workdir holds another study, or the config cannot run; before any
        work.
    """
    started = time.perf_counter()
    if spec.pretrain.init_from is not None:
        initial.find_origin(spec.pretrain.init_from)  # before anything is written
    _claim(spec, workdir)
    all_runs = plan.runs(spec, workdir)
    weights = [max(1.0, float(each.spec.num_steps)) for each in all_runs]
    asked = agenda.groups(spec, all_runs)
    total = sum(weights) + sum(group.weight for group in asked)
    progress = progress or Progress(total)
    for each, weight in zip(all_runs, weights, strict=True):
        _train(each, weight, progress)
    root = workdir / "records"
    if distributed.is_primary():  # training is shared, the questions are small
        for group in asked:
            _answer(root, group, progress)
        redraw(workdir)
    distributed.wait_for_all("study done")
    return StudyResult(workdir / PAGE_FILE, root, time.perf_counter() - started)


def run_one(spec: RunSpec, workdir: Path, *, progress: Progress | None = None) -> RunResult:
    """One training run, with its progress told.

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
    only = plan.Run(spec.name, spec.kind, 1, workdir, spec)
    weight = max(1.0, float(spec.num_steps))
    return _train(only, weight, progress or Progress(weight))


def redraw(workdir: Path) -> Path:
    """Draws the page of a study again from its records, and returns its path.

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
        found = json.loads(path.read_text())
        if isinstance(found, dict) and isinstance(found.get("title"), str):
            return found
        reason = "it lacks the title"
    except ValueError as error:
        reason = str(error)
    raise ValueError(
        f"{path} is not the config of a study ({reason}); delete it, and give tlx study the "
        "config again"
    )


def _answer(root: Path, group: agenda.Group, progress: Progress) -> None:
    progress.start(group.name, group.weight)
    computed = 0
    for i, ask in enumerate(group.each):
        progress.part(i / len(group.each), f"{i} of {len(group.each)}")
        computed += asking.ask(root, ask())[1]
    progress.finish(f"{len(group.each)} records", worked=computed > 0)


def _train(run: plan.Run, weight: float, progress: Progress) -> RunResult:
    progress.start(f"train {run.name}", weight)
    was_done = read_result(run.workdir) is not None

    def tell(step: int, num_steps: int, numbers: Mapping[str, float]) -> None:
        accuracy = numbers.get("test_accuracy")
        detail = "" if accuracy is None else f"test accuracy {accuracy:.3f}"
        progress.part(step / max(num_steps, 1), f"step {step} of {num_steps}  {detail}")

    result = train(run.spec, run.workdir, progress=tell)
    progress.finish(f"test accuracy {result.test['accuracy']:.3f}", worked=not was_done)
    return result


def _claim(spec: StudySpec, workdir: Path) -> None:
    """Makes the workdir this study's, or checks that it is."""
    path = workdir / CONFIG_FILE
    ours = json.loads(records.canonical_json(spec))
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
