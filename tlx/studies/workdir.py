"""The files of a study: of one config only; and all that is done in them."""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tlx import records
from tlx.config import serial, typed
from tlx.studies import graph, plan
from tlx.studies.graph import Task
from tlx.studies.spec import StudySpec
from tlx.train import metrics_log
from tlx.train import workdir as run_workdir

CONFIG_FILE = "study.json"
PAGE_FILE = "report.html"

_REWRITE = "delete {} and give tlx study the config again, which writes it anew"


def tasks(
    spec: StudySpec, workdir: Path, *, asks: bool = True, log_to: Sequence[str] = ()
) -> list[Task]:
    """All that a study does, in an order in which it can be done.

    Args:
      spec: the study.
      workdir: its folder.
      asks: whether it is not its runs alone.
      log_to: where the numbers of its runs go besides.
    """
    made = plan.make(spec, workdir)
    asked = spec.asked() if asks else {}
    found = graph.tasks(made, asked, records_of(workdir), tuple(log_to))
    if not asks:
        return found
    return [*found, graph.Drawing(records_of(workdir), page_of(workdir), spec.title)]


def digest(tasks: Sequence[Task]) -> str:
    """What tells whether tasks have the same numbers elsewhere."""
    return f"{zlib.crc32(json.dumps([task.name for task in tasks]).encode()):08x}"


def records_of(workdir: Path) -> Path:
    """The folder of a study's records."""
    return workdir / "records"


def page_of(workdir: Path) -> Path:
    """The path of a study's page."""
    return workdir / PAGE_FILE


def marks_of(workdir: Path) -> Path:
    """The folder where the parts that are under way or have failed are marked."""
    return workdir / "parts"


def claim(spec: StudySpec, workdir: Path) -> None:
    """Makes the workdir this study's, or checks that it is.

    Raises:
      ValueError: it holds a study with another config, with the fields that differ, or a run, or
        is a file.
    """
    require(spec, workdir)
    path = workdir / CONFIG_FILE
    if not path.exists():
        workdir.mkdir(parents=True, exist_ok=True)
        metrics_log.replace_text(path, json.dumps(_saved(spec), indent=2) + "\n")


def require(spec: StudySpec, workdir: Path) -> None:
    """Checks that the workdir is this study's, or nobody's; writes nothing.

    Raises:
      ValueError: as `claim`.
    """
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"expected a folder for the study, got the file {workdir}")
    if not (workdir / CONFIG_FILE).exists():
        if (workdir / run_workdir.CONFIG_FILE).exists():
            raise ValueError(f"{workdir} holds a run; choose another workdir for the study")
        return
    theirs, ours = read_config(workdir), _saved(spec)
    whole = typed.completed(StudySpec, theirs)
    differing = serial.differences(theirs if whole is None else _saved(whole), ours)
    if differing:
        raise ValueError(
            f"{workdir} holds a study with another config; differing:\n"
            + "\n".join(f"  {line}" for line in differing)
            + "\nChoose another workdir, or delete that one to start anew."
        )


def read(workdir: Path, *, checks: bool = True) -> StudySpec:
    """The study that a workdir was made with.

    Args:
      workdir: of the study.
      checks: whether the study can be done here; its config may register a model, say.

    Raises:
      ValueError: there is none, it is damaged or of another version of tlx, or it cannot be done
        here: its data are not there, say.
    """
    if not checks and (found := typed.completed(StudySpec, read_config(workdir))) is not None:
        return found
    try:
        return typed.build(StudySpec, read_config(workdir))
    except typed.ConfigError as error:
        path = workdir / CONFIG_FILE
        raise typed.ConfigError(
            f"{path}: expected the config of a study that can be done here, but {error}\n"
            f"If it is damaged or of another version of tlx, {_REWRITE.format(path)}."
        ) from error


def read_config(workdir: Path) -> dict[str, Any]:
    """The saved config of a study.

    Raises:
      ValueError: there is none, or it is damaged.
    """
    path = workdir / CONFIG_FILE
    if not path.exists():
        raise ValueError(f"no {path}: expected the workdir of a study; run tlx study first")
    try:
        config = json.loads(path.read_text())
        if isinstance(config, dict) and isinstance(config.get("title"), str):
            return config
        reason = "it lacks the title"
    except ValueError as error:
        reason = str(error)
    raise ValueError(f"{path} is not the config of a study ({reason}); {_REWRITE.format(path)}")


def _saved(spec: StudySpec) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(records.canonical_json(spec.saved()))
    return found
