"""TensorBoard and Weights & Biases, fed with the numbers of metrics.jsonl and telemetry.jsonl.

Both are extras, imported when asked for. The step is the axis, and a run that was stopped and goes
on continues its curves. No failure of theirs stops training.
"""

import functools
import importlib.util
import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from tlx.config import serial
from tlx.core import checks
from tlx.train import metrics_log, telemetry
from tlx.train.spec import RunSpec

PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb"}
"""The package that each tracker needs; the extra has the tracker's name."""

WANDB_ID_FILE = "wandb_id"
PROJECT = "tlx"


Numbers: TypeAlias = dict[str, float]


class Tracker(Protocol):
    """Where numbers by step go."""

    def log(self, step: int, numbers: Numbers, *, again: bool) -> None:
        """Adds numbers at a step; `again` if an earlier start has given numbers of this step."""

    def flush(self) -> None:
        """Has what was added written, so that a kill does not lose it."""

    def close(self) -> None:
        """Ends."""


def require(names: Sequence[str]) -> None:
    """Raises unless all trackers are known and their packages installed.

    Raises:
      ValueError: otherwise, with what to do.
    """
    for name in names:
        if name not in PACKAGES:
            raise ValueError(f"log_to: {checks.unknown('tracker', name, PACKAGES)}")
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise ValueError(
                f"log_to: {name!r} needs the package {PACKAGES[name]}, which is not installed; "
                f"run: pip install '.[{name}]' in the clone of tlx"
            )


def attempt(name: str, do: Callable[[], object]) -> bool:
    """Does what training can go on without: whether it succeeded, else with a warning."""
    try:
        do()
    except Exception as error:  # whatever a package of others raises
        what = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        logging.getLogger("tlx").warning("%s: %s; training goes on without it", name, what)
        return False
    return True


class Trackers:
    """The trackers of a run. One that fails is left out from then on, with a warning.

    Args:
      names: of `PACKAGES`.
      spec: of the run.
      workdir: its folder.
      begun: the step of the checkpoint that it goes on from; None where it begins.
    """

    def __init__(
        self, names: Sequence[str], spec: RunSpec, workdir: Path, begun: int | None
    ) -> None:
        make: dict[str, Callable[[], Tracker]] = {
            "tensorboard": lambda: TensorBoard(workdir, begun),
            "wandb": lambda: WeightsAndBiases(spec, workdir),
        }
        lines, intervals = [], []
        if names:
            lines, intervals = metrics_log.read(workdir), telemetry.read(workdir)
        self._given = {(line["step"], line["split"]) for line in lines}
        steps = (line["step"] for line in intervals if line["event"] == "interval")
        self._seen = max(steps, default=-1)
        self._open: dict[str, Tracker] = {}
        for name in names:
            attempt(name, functools.partial(self._add, name, make[name]))

    def metrics(self, line: Mapping[str, Any]) -> None:
        """Takes the numbers of a line of metrics.jsonl, as "split/name"."""
        again = (line["step"], line["split"]) in self._given
        self._log(line["split"], line, ("step", "count"), again)

    def telemetry(self, line: Mapping[str, Any]) -> None:
        """Takes the numbers of an interval of telemetry.jsonl, as "telemetry/name"."""
        self._log("telemetry", line, ("step", "from_step", "time"), line["step"] <= self._seen)

    def flush(self) -> None:
        """Has all written."""
        self._each(lambda tracker: tracker.flush())

    def close(self) -> None:
        """Ends all."""
        self._each(lambda tracker: tracker.close())

    def _add(self, name: str, make: Callable[[], Tracker]) -> None:
        self._open[name] = make()

    def _log(self, prefix: str, line: Mapping[str, Any], but: Sequence[str], again: bool) -> None:
        step = line["step"]
        kept = ((n, x) for n, x in line.items() if isinstance(x, int | float) and n not in but)
        numbers = {f"{prefix}/{name}": float(x) for name, x in kept}
        self._each(lambda tracker: tracker.log(step, numbers, again=again))

    def _each(self, do: Callable[[Tracker], None]) -> None:
        each = self._open.items()
        self._open = {n: t for n, t in each if attempt(n, functools.partial(do, t))}


class TensorBoard:
    """Scalars as event files in `tensorboard/`; `tensorboard --logdir=` a folder above shows them.

    A run that goes on from step n first has TensorBoard drop what an earlier start wrote after it.
    """

    def __init__(self, workdir: Path, begun: int | None) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(
            str(workdir / "tensorboard"),
            purge_step=0 if begun is None else begun + 1,
            # files are read in the order of their names, which hold whole seconds alone
            filename_suffix=f".{time.time_ns()}",
        )

    def log(self, step: int, numbers: Numbers, *, again: bool) -> None:
        """As `Tracker.log`."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """As `Tracker.flush`."""
        self._writer.flush()

    def close(self) -> None:
        """As `Tracker.close`."""
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases, the same one for all starts: its id is in `wandb_id`.

    What an earlier start has given is not given again. Which server, project (`tlx` by default) and
    account is for its own variables to say; WANDB_MODE=offline keeps all in `wandb/`, for `wandb
    sync`.
    """

    def __init__(self, spec: RunSpec, workdir: Path) -> None:
        import wandb

        path = workdir / WANDB_ID_FILE
        self._is_new = not path.exists()
        if self._is_new:
            metrics_log.replace_text(path, uuid.uuid4().hex[:8])
        self._run = wandb.init(
            id=path.read_text(),
            resume="allow",
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=spec.name,
            group=spec.kind,
            config=serial.to_dict(spec),
            dir=str(workdir),
            settings=wandb.Settings(console="off", quiet=True),
        )
        # an axis of its own: W&B's takes no step below the last, and lines of the two files differ
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, numbers: Numbers, *, again: bool) -> None:
        """As `Tracker.log`."""
        if self._is_new or not again:
            self._run.log({**numbers, "step": step})

    def flush(self) -> None:
        """Does nothing: another process has what was logged."""

    def close(self) -> None:
        """As `Tracker.close`."""
        self._run.finish()
