"""The parts of a study: its runs, the questions about them, its page; and which need which."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tlx.report import page
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


class Drawing(NamedTuple):
    """The page, which is drawn of all records whenever it is asked for."""

    records: Path
    page: Path
    title: str

    @property
    def name(self) -> str:
        """Of what is shown."""
        return "page"

    @property
    def weight(self) -> float:
        """What it counts for in the time left, in training steps."""
        return 60.0

    def do(self, tell: Tell) -> Done:
        """Draws it."""
        page.write(self.records, self.page, title=self.title)
        return Done("", True)


Task = Training | Asking | Drawing


def tasks(
    plan: Plan, asked: Mapping[str, Question], records: Path, log_to: tuple[str, ...] = ()
) -> list[Task]:
    """The runs of a plan and what is asked of them, in an order in which it can be done."""
    found: list[Task] = [Training(run, log_to) for run in plan.runs]
    for name, one in asked.items():
        found += [Asking(name, one, subject, records) for subject in one.subjects(plan)]
    return found


def parts(tasks: Sequence[Task]) -> list[Part]:
    """The tasks as parts of a work: which need which runs."""
    number_of = {
        task.run.workdir: number for number, task in enumerate(tasks) if isinstance(task, Training)
    }
    found = list[Part]()
    for task in tasks:
        if isinstance(task, Training):
            start = task.run.spec.init_from
            needs = [Path(place) for place in (start.workdir, *start.average)] if start else []
            kind = "train"
        elif isinstance(task, Asking):
            needs = [run.workdir for run in runs_in(task.subject)]
            kind = task.name
        else:
            found.append(Part(task.name, task.name, task.weight, frozenset(range(len(found)))))
            continue
        numbers = frozenset(number_of[place] for place in needs if place in number_of)
        found.append(Part(task.name, kind, task.weight, numbers))
    return found


def only(parts: Sequence[Part], numbers: Sequence[int]) -> list[Part]:
    """Some of the parts, numbered anew, which need each other only."""
    new = {number: i for i, number in enumerate(numbers)}
    return [
        parts[number]._replace(needs=frozenset(new[n] for n in parts[number].needs if n in new))
        for number in numbers
    ]


def row_of(task: Task) -> str:
    """What a task is counted among: "train P-T", or a question."""
    return f"train {task.run.kind}" if isinstance(task, Training) else task.name


def done(tasks: Sequence[Task]) -> set[int]:
    """The numbers of the tasks that are done; nothing is written.

    The page is done where everything else is, and it is there.
    """
    found = set[int]()
    runs = set[Path]()
    for number, task in enumerate(tasks):
        if isinstance(task, Training):
            is_done = task.run.workdir.exists() and read_result(task.run.workdir) is not None
            runs |= {task.run.workdir} if is_done else set()
        elif isinstance(task, Asking):
            is_done = all(run.workdir in runs for run in runs_in(task.subject))
            is_done = is_done and question.is_answered(
                task.records, task.name, task.question, task.subject
            )
        else:
            is_done = len(found) == number and task.page.exists()
        if is_done:
            found.add(number)
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
