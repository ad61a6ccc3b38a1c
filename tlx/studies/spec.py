"""What a transfer study is: three kinds of run, and what is asked of them and between them."""

import dataclasses
from typing import Any

from tlx.config import problems as check
from tlx.core import checks
from tlx.studies import partial
from tlx.studies.axes import ARMS, Axes
from tlx.studies.question import Question
from tlx.studies.questions import NAMES, Questions
from tlx.train.spec import InitFrom, RunSpec

SEEDS_APART = 1000
"""Distance between the seeds of replicates."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudySpec(Questions):
    """A transfer study: P on the source, P-T and RI-T on the target, plain and shuffled.

    P-T starts from P's weights, RI-T from random ones, and S-T, where it is asked for, from random
    ones with the statistics of P's: what P-T has beyond S-T is owed to features.

    The options of each question stand under its name, as `basin.num_draws`; those that are left
    out are the defaults of its class in `tlx.studies.questions`.

    Attributes:
      name: short name, for files.
      title: the title of the page.
      pretrain: the run on the source, P. With `init_from` (head "keep") and no steps it is the
        model of another run.
      finetune: the runs on the target from P's weights, P-T; its `init_from` is set by the
        study.
      scratch: the runs on the target from random weights, RI-T.
      init_step: the checkpoint of P to start from: a step, "last" or "best".
      init_head: what fine-tuning's new head starts from; see `tlx.train.spec.InitFrom`.
      arms: further kinds of run on the target, plain and along the axes: "S-T", trained as P-T
        from weights drawn tensor by tensor with the mean and the standard deviation of P's; "C-T",
        trained as P-T from the mean of the weights of all P-T runs there, head included. All C-T
        have this one start: intervals over them do not cover which P-T are averaged.
      replicates: runs of each kind, at least 2 where a question compares pairs;
        replicate i has the config's seed plus i·1000.
      most_compared: runs of each kind of which all pairs are compared, at most; so that twenty
        replicates do not make 190 pairs of each kind.
      rates: further learning rates with which every P-T and RI-T is trained too.
      axes: other values of one thing at which P-T and RI-T are trained too.
      shuffle_by_seed: whether each replicate has its own shuffle of a kind (replicate i that of the
        config's shuffle_seed + i − 1), so that intervals over runs cover the chance of the
        shuffle. Two replicates on shuffled images are then not compared by their features.
      forks: steps from which on copies of the first three P-T and RI-T go on with another order of
        the data, to see from which step on two copies share a basin; step 0 is the start.
      fork_noise: above 0: copies keep the order of the data, and instead each has Gaussian noise
        added to its weights at that step, of this share of the root mean square of each tensor.
      partial: further P-T runs that start from some modules of P only, the rest fresh: "first:k"
        takes the first k modules (of the body, so that k is 0 … their number), "except:k" all but
        those; "first:k:frozen" trains the others only.
      questions: names of those that are asked, as `("basin", "plane")`; none: all that the runs
        allow. Learning curves and times are always recorded.
    """

    name: str
    title: str
    pretrain: RunSpec
    finetune: RunSpec
    scratch: RunSpec
    init_step: int | str = "last"
    init_head: str = "zeros"
    arms: tuple[str, ...] = ()
    replicates: int = 2
    most_compared: int = 5
    rates: tuple[float, ...] = ()
    axes: Axes = dataclasses.field(default_factory=Axes)
    shuffle_by_seed: bool = False
    forks: tuple[int, ...] = ()
    fork_noise: float = 0.0
    partial: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()

    def asked(self) -> dict[str, Question]:
        """The questions that are asked, by name, in the order in which they are answered."""
        names = self.questions or NAMES
        return {
            name: question
            for name, question in self.by_name().items()
            if question.is_always_asked or name in names
        }

    def saved(self) -> dict[str, Any]:
        """What decides the study, by field: all but the options of questions that it does not ask.

        A study is built from it again, and differs from this one in those options alone.
        """
        left_out = self.by_name().keys() - self.asked().keys()
        names = [field.name for field in dataclasses.fields(self)]
        return {name: getattr(self, name) for name in names if name not in left_out}

    def problems(self) -> list[str]:
        """Everything that is wrong, each with its place; empty if nothing is."""
        problems = []
        for part in ("pretrain", "finetune", "scratch"):
            run: RunSpec = getattr(self, part)
            problems += [f"{part}.{problem}" for problem in run.problems()]
            problems += [f"{part}.data.{problem}" for problem in run.data.unavailable()]
        start = InitFrom(workdir="P", step=self.init_step, head=self.init_head)
        problems += [f"init_{problem}" for problem in start.problems()]
        problems += check.integer("replicates", self.replicates, low=1)
        problems += check.integer("most_compared", self.most_compared, low=2)
        problems += check.flag("shuffle_by_seed", self.shuffle_by_seed)
        problems += check.single("fork_noise", self.fork_noise, low=0)
        for arm in self.arms:
            if arm not in ARMS:
                problems.append(f"arms: {checks.unknown('arm', arm, ARMS)}")
        if len(set(self.arms)) < len(self.arms):
            problems.append(f"arms: expected each once, got {self.arms}")
        for name, question in self.by_name().items():
            problems += [f"{name}.{problem}" for problem in question.problems()]
        for name in self.questions:
            if name not in NAMES:
                problems.append(f"questions: {checks.unknown('question', name, NAMES)}")
        return problems + self._seed_problems() or self._cross_problems()

    def _seed_problems(self) -> list[str]:
        """Of questions that need more runs of a recipe than there are."""
        needing = sorted(n for n, q in self.asked().items() if q.replicates > self.replicates)
        if self.replicates < 1 or not needing:
            return []
        fitting = {n for n, q in self.by_name().items() if q.replicates <= self.replicates}
        others = sorted(fitting.intersection(NAMES))
        return [
            f"replicates: expected at least 2, for two runs of one recipe in {', '.join(needing)}, "
            f"got {self.replicates}; or choose questions from {', '.join(others)}"
        ]

    def _cross_problems(self) -> list[str]:
        problems = []
        if self.finetune.init_from or self.scratch.init_from:
            problems.append("init_from: the study sets it; leave it None in finetune and scratch")
        for field in ("model", "data", "loss"):
            ours, theirs = getattr(self.finetune, field), getattr(self.scratch, field)
            if ours != theirs:
                problems.append(
                    f"finetune.{field} and scratch.{field}: expected equal ones, since P-T and "
                    f"RI-T are compared, got {ours} and {theirs}"
                )
        problems += [
            f"partial: {problem}" for problem in partial.problems(self.partial, self.finetune)
        ]
        steps = min(self.finetune.num_steps, self.scratch.num_steps)
        twice = len(set(self.forks)) < len(self.forks)
        if twice or not all(0 <= step < steps for step in self.forks):
            problems.append(
                f"forks: expected steps of finetune and scratch, 0 to {steps - 1}, each once, got "
                f"{self.forks}"
            )
        of_axes = self.axes.problems(self.finetune, self.pretrain, self.init_step)
        if self.shuffle_by_seed and not of_axes:
            of_axes = self.axes.shuffle_problems(self.finetune, self.replicates)
        return problems + [f"axes.{problem}" for problem in of_axes] + self._rate_problems()

    def _rate_problems(self) -> list[str]:
        problems = []
        if len(set(self.rates)) < len(self.rates):
            problems.append(f"rates: expected each once, got {self.rates}")
        if any(rate <= 0 for rate in self.rates):
            problems.append(f"rates: expected numbers above 0, got {self.rates}")
        plain = [run.optim.rate for run in (self.finetune, self.scratch)]
        if self.rates and len({rate in self.rates for rate in plain}) > 1:
            problems.append(
                "rates: expected both of the rates of finetune and scratch among them or neither, "
                f"so that P-T and RI-T are chosen from as many, got {self.rates} with {plain}"
            )
        return problems
