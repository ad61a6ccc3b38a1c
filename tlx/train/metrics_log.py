"""metrics.jsonl: one JSON object a line, in the order of steps, appended and flushed.

Lines of evaluations: `{"step", "split": "train" | "valid" | "test", "loss", "accuracy",
"count"}`, clean and in evaluation mode. Lines of single batches: `{"step", "split": "batch",
"loss", "accuracy", "count", "rate"}`, where step n is the
n-th update and the loss is that before it.
The file contains no times, so a run that was stopped and continued leaves the same file.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from tlx.checkpoints import select
from tlx.core import files
from tlx.train import distributed

FILE = "metrics.jsonl"

Line: TypeAlias = dict[str, Any]


def read(workdir: str | Path, *, last_step: int | None = None) -> list[Line]:
    """The lines of a run; a last line that was cut off by a stop is left out.

    Args:
      workdir: of the run; without the file there are no lines.
      last_step: lines after this step are left out.
    """
    path = Path(workdir) / FILE
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            break
        if not isinstance(line, dict) or not {"step", "split"} <= line.keys():
            break
        if last_step is None or line["step"] <= last_step:
            lines.append(line)
    return lines


class MetricsLog:
    """Appends lines; only the first process writes. A context manager.

    Args:
      workdir: of the run.
      last_step: lines after this step are dropped from the file first.
    """

    def __init__(self, workdir: str | Path, *, last_step: int) -> None:
        self.lines = read(workdir, last_step=last_step)
        self._file, self._path = None, Path(workdir) / FILE
        if distributed.is_primary():
            replace_text(self._path, "".join(_text(line) for line in self.lines))
            self._file = self._path.open("a")

    def write(self, line: Mapping[str, Any]) -> None:
        """Appends a line of finite numbers and str."""
        self.lines.append(dict(line))
        if self._file:
            with files.placed(self._path):
                self._file.write(_text(line))
                self._file.flush()

    def sync(self) -> None:
        """Waits until the lines are on disk."""
        if self._file:
            with files.placed(self._path):
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        if self._file:
            with files.placed(self._path):  # what could not be written is tried once more
                self._file.close()

    def __enter__(self) -> "MetricsLog":
        """The log."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the file."""
        self.close()


def replace_text(path: Path, text: str) -> None:
    """Writes a file completely or not at all; of one writer at a time.

    A kill may leave the file of the name that is the same for each, which the next one replaces.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        with files.placed(path), temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    temporary.replace(path)


def score(line: Line) -> float | None:
    """The score to select a step by: the AUC for images with several labels, else the accuracy."""
    return line["auc"] if "auc" in line else line["accuracy"]


def best(lines: Iterable[Line]) -> Line | None:
    """The line with the best `score`, the earliest of equals; None if there is none.

    Of the lines of held-out examples ("valid") where there are any, else of the test lines.
    """
    by_split: dict[str, dict[int, Line]] = {"valid": {}, "test": {}}
    for line in lines:
        by_split.get(line["split"], {})[line["step"]] = line
    own = by_split["valid"] or by_split["test"]
    step = select.best_of({step: score(line) for step, line in own.items()})
    return None if step is None else own[step]


def mean_train_accuracy(lines: Iterable[Line]) -> float:
    """The mean over evaluations of the clean training accuracy; NaN if there are none.

    That of step 0 counts; the paper's measure of the speed of optimisation (figure 3, right)
    leaves it out: see `tlx.analyses.function.learning.average`.
    """
    values = [line["accuracy"] for line in lines if line["split"] == "train"]
    return math.fsum(values) / len(values) if values else math.nan


def _text(line: Mapping[str, Any]) -> str:
    return json.dumps(line, allow_nan=False) + "\n"
