"""The parts of a study: its runs, and the questions about them; and which parts need which."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tlx.studies import question
from tlx.studies.pool import Part, Tell
from tlx.studies.question import Question
from tlx.studies.runs import Plan, Run
from tlx.train.loop import train
from tlx.train.tracing import Trace
from tlx.train.workdir import read_result


class Told(NamedTuple):
    """How far a part is.

    Attributes:
      fraction: of it, 0 to 1.
      detail: in words.
    """

    fraction: float
    detail: str


class Done(NamedTuple):
    """What came of a part.

    Attributes:
      detail: in words.
      worked: False where it was found done.
    """

    detail: str
    worked: bool


class Training(NamedTuple):
    """A run to be trained.

    Attributes:
      run: which.
      log_to: where its numbers go besides, as `tlx.train.loop.train` takes it.
      trace: the steps that the profiler sees; likewise.
    """

    run: Run
    log_to: tuple[str, ...] = ()
    trace: Trace | None = None

    @property
    def name(self) -> str:
        """Of what is shown."""
        return f"train {self.run.name}"

    @property
    def weight(self) -> float:
        """What it counts for in the time left: its steps."""
        return max(1.0, float(self.run.spec.num_steps))

    def do(self, tell: Tell) -> Done:
        """Trains it, or what is left of it."""
        was_done = read_result(self.run.workdir) is not None

        def show(step: int, num_steps: int, numbers: Mapping[str, float]) -> None:
            images, accuracy = numbers.get("images_per_second"), numbers.get("test_accuracy")
            parts = [f"step {step} of {num_steps}"]
            parts += [] if images is None else [f"{images:,.0f} images/s"]
            parts += [] if accuracy is None else [f"test accuracy {accuracy:.3f}"]
            tell(Told(step / max(num_steps, 1), "  ".join(parts)))

        result = train(
            self.run.spec, self.run.workdir, progress=show, log_to=self.log_to, trace=self.trace
        )
        return Done(f"test accuracy {result.test['accuracy']:.3f}", not was_done)


class Asking(NamedTuple):
    """A question about one of its subjects."""

    name: str
    question: Question
    subject: Any
    records: Path

    @property
    def weight(self) -> float:
        """What it counts for in the time left, in training steps."""
        return self.question.weight

    def do(self, tell: Tell) -> Done:
        """Answers it, or finds the answer."""
        _, worked = question.ask(self.records, self.name, self.question, self.subject)
        return Done("", worked)


Task = Training | Asking


def tasks(
    plan: Plan, asked: Mapping[str, Question], records: Path, log_to: tuple[str, ...] = ()
) -> list[Task]:
    """All that is to be done, in an order in which it can be."""
    found: list[Task] = [Training(run, log_to) for run in plan.runs]
    for name, one in asked.items():
        found += [Asking(name, one, subject, records) for subject in one.subjects(plan)]
    return found


def parts(tasks: list[Task]) -> list[Part]:
    """The tasks as parts of a work: which need which runs."""
    number_of = {
        task.run.workdir: number for number, task in enumerate(tasks) if isinstance(task, Training)
    }
    found = []
    for task in tasks:
        if isinstance(task, Training):
            start = task.run.spec.init_from
            needs = [Path(place) for place in (start.workdir, *start.average)] if start else []
            kind = "train"
        else:
            needs = [run.workdir for run in runs_in(task.subject)]
            kind = task.name
        numbers = frozenset(number_of[place] for place in needs if place in number_of)
        found.append(Part(task.name, kind, task.weight, numbers))
    return found


def runs_in(subject: Any) -> Iterator[Run]:
    """Every run that a subject holds, at any depth."""
    if isinstance(subject, Run):
        yield subject
    elif isinstance(subject, Mapping):
        yield from runs_in(tuple(subject.values()))
    elif isinstance(subject, tuple | list):
        for each in subject:
            yield from runs_in(each)
