"""What a study will do, what of it is done, and about how long the rest takes."""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tlx import config, records
from tlx.data import loader
from tlx.data.spec import DataSpec
from tlx.report.words.table import Table
from tlx.studies import graph, progress, resources
from tlx.studies import workdir as files
from tlx.studies.graph import Task, Training
from tlx.studies.spec import StudySpec
from tlx.train.loop import train
from tlx.train.spec import CheckpointSpec, RunSpec

STEPS = 4, 24
"""Steps of two short runs, whose difference is that of so many steps alone."""


ASKING = 0.03
"""Evaluations to a training step in the weight of a question: as in runs of some 200 steps."""


class Pace(NamedTuple):
    """How long things take, in seconds.

    Attributes:
      step: of training.
      evaluation: of a run, on all its training and test images.
    """

    step: float
    evaluation: float


class Row(NamedTuple):
    """The parts of a study of one kind.

    Attributes:
      name: "train P-T", or a question.
      number: of the parts.
      done: how many of them.
      steps: training steps of the others; of questions their weight in such.
      evaluations: those of the others.
    """

    name: str
    number: int
    done: int
    steps: float
    evaluations: float

    def seconds(self, pace: Pace) -> float:
        """That what is not done takes one process."""
        return self.steps * pace.step + self.evaluations * pace.evaluation


def rows(spec: StudySpec, workdir: Path) -> list[Row]:
    """The parts of a study by kind, in the order in which they are done; nothing is written."""
    tasks = files.tasks(spec, workdir)
    found: dict[str, Row] = {}
    done = graph.done(tasks)
    for number, task in enumerate(tasks):
        name = graph.row_of(task)
        row = found.get(name, Row(name, 0, 0, 0.0, 0.0))
        is_done = number in done
        steps, evaluations = (0.0, 0.0) if is_done else _cost(task)
        found[name] = Row(
            name,
            row.number + 1,
            row.done + is_done,
            row.steps + steps,
            row.evaluations + evaluations,
        )
    return list(found.values())


def _cost(task: Task) -> tuple[float, float]:
    if isinstance(task, Training):
        spec = task.run.spec
        return spec.num_steps, 1 + spec.num_steps / spec.eval_every if spec.num_steps else 1
    return task.weight, ASKING * task.weight


def pace(spec: StudySpec) -> Pace:
    """How long a step and an evaluation of a study's runs take on this machine.

    In one thread where several run at once. Cost: three short runs, in a process of its own; about
    as long as compiling takes.
    """
    text = records.canonical_json(spec.saved())
    found = subprocess.run(
        [sys.executable, "-c", f"from tlx.studies import outline; outline._tried({text!r})"],
        check=True,
        env=os.environ | (resources.environment() if resources.workers() is not None else {}),
        stdout=subprocess.PIPE,
        text=True,
    )
    return Pace(*json.loads(found.stdout.splitlines()[-1]))


def _tried(text: str) -> None:
    """Prints the pace of a study's scratch run."""
    print(json.dumps(pace_here(config.build(StudySpec, json.loads(text)).scratch)))


def pace_here(run: RunSpec) -> Pace:
    """How long a step and an evaluation of a run take in this process."""
    counts = [int(loader.data_key(run.data, split)["count"]) for split in ("train", "test")]
    few = [min(count, 4 * run.data.batch_size) for count in counts]
    some = dataclasses.replace(run.data, train_size=few[0], test_size=few[1], valid_size=0)
    first, second = (_seconds(run, steps, some) for steps in STEPS)
    step = max(second - first, 1e-4) / (STEPS[1] - STEPS[0])
    whole = _seconds(run, STEPS[0], run.data)  # which is evaluated before and after
    return Pace(step, max(whole - STEPS[0] * step, 0.0) / 2)


def _seconds(run: RunSpec, steps: int, data: DataSpec) -> float:
    with tempfile.TemporaryDirectory() as folder:
        short = dataclasses.replace(
            run,
            num_steps=steps,
            eval_every=steps,
            data=data,
            optim=dataclasses.replace(run.optim, schedule="constant", boundaries=()),
            checkpoint=CheckpointSpec(rule="none"),
        )
        return train(short, Path(folder) / "run").seconds


def text(found: list[Row], pace: Pace, workers: int) -> str:
    """What there is to do, as a table, and how long it takes."""
    left = [row.seconds(pace) for row in found]
    shown = [
        (row.name, str(row.number), str(row.done), progress.clock(seconds) if seconds else "")
        for row, seconds in zip(found, left, strict=True)
    ]
    number, done = (sum(counts) for counts in zip(*(row[1:3] for row in found), strict=True))
    table = Table(
        ("what", "parts", "done", "left, by one process"),
        (*shown, ("in all", str(number), str(done), progress.clock(sum(left)))),
    )
    if done == number:
        return f"{table.text()}\n\nall is done; tlx report draws the page again"
    processes = f"{workers} processes" if workers > 1 else "one process"
    total = progress.clock(sum(left) / workers)
    return f"{table.text()}\n\nabout {total} by {processes}, compiling not counted"


def device_hours(found: list[Row], pace: Pace) -> str:
    """How long the parts that are not done take one device after another, in words."""
    seconds = sum(row.seconds(pace) for row in found)
    return (
        f"about {seconds / 3600:.3g} device-hours ({progress.clock(seconds)}), at the pace of this "
        "machine, compiling not counted"
    )
