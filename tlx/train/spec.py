"""The specification of a training run: frozen dataclasses, each with its problems in words.

A `RunSpec` (with the weights that `init_from` names) determines the numbers of a run: two runs
of one spec give the same metrics and weights.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from tlx import models
from tlx.config import problems as check
from tlx.config import serial
from tlx.config.typed import tuples
from tlx.data.spec import DataSpec
from tlx.train.optim_spec import OptimSpec as OptimSpec

LOSSES = ("softmax", "multilabel")
STEP_RULES = ("none", "log2")
HEAD = "head"
HEADS = ("zeros", "random", "keep")
WEIGHTS = ("copied", "statistics")
STEP_NAMES = ("last", "best")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model by its name in `tlx.models`.

    Attributes:
      name: a name in `tlx.models.MODELS`.
      dtype: dtype of the computation, "float32" or "bfloat16"; weights are float32.
      options: further arguments of the model (width, depth …), JSON values; lists are
        given to the model as tuples.
    """

    name: str
    dtype: str = "float32"
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def problems(self) -> list[str]:
        """Every problem with the values, in words; makes the module, which has no weights."""
        found = check.text("name", self.name)
        found += check.choice("dtype", self.dtype, ("float32", "bfloat16"))
        options: Any = self.options
        if not isinstance(options, Mapping):
            found.append(f"options: expected a mapping of arguments, got {options!r}")
        if not found:
            try:
                models.make(self.name, num_classes=2, dtype=self.dtype, **tuples(options))
            except (ValueError, TypeError) as error:
                found.append(f"name, options: {error}")
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointSpec:
    """The steps whose weights are kept; step 0 and the last step always are.

    Attributes:
      rule: "log2" keeps steps 1, 2, 4, 8 …; "none" adds nothing.
      steps: further steps to keep, increasing.
      every: keep every n-th step; 0: none.
      keep_best: keep the best evaluation, the earliest of equals: by the accuracy on the
        examples held out (`DataSpec.valid_size`), or on the test set where there are none.
      resume_every: save every n-th step to resume after a stop, dropped when the next one is
        saved; 0: only the steps above. A saved step costs some tens of milliseconds.
    """

    rule: str = "none"
    steps: tuple[int, ...] = ()
    every: int = 0
    keep_best: bool = True
    resume_every: int = 0

    def problems(self) -> list[str]:
        """Every problem with the values, in words."""
        found = check.choice("rule", self.rule, STEP_RULES)
        found += check.increasing("steps", self.steps, low=0)
        found += check.integer("every", self.every, low=0)
        found += check.flag("keep_best", self.keep_best)
        return found + check.integer("resume_every", self.resume_every, low=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class InitFrom:
    """The checkpoint whose weights a run starts from.

    Attributes:
      workdir: the workdir of the other run.
      average: workdirs of further runs of the same model: the start is the mean of the weights of
        all of them, batch statistics included (of fine-tuned runs the centre of their region:
        A. Gueta et al., Knowledge is a region in weight space for fine-tuned language models,
        2023).
      step: a step that was kept, or "last" or "best".
      head: the start of the module "head": "zeros", "random" (the model's initialisation with
        this run's seed) or "keep".
      modules: which other modules (of the model's `module_names`) start from the checkpoint,
        batch statistics included; the rest has the model's initialisation with this run's seed.
        None: all of them. For curves by depth (J. Yosinski et al., How transferable are
        features in deep neural networks?, 2014) the first k, tuned or in `OptimSpec.freeze`.
      weights: what of those modules is taken: "copied", or "statistics", which draws each
        tensor anew, normal with the mean and the standard deviation of the checkpoint's, by this
        run's seed (M. Raghu et al., Transfusion, 2019). A tensor of equal values stays as it is,
        and batch statistics are those of the model's initialisation.
    """

    workdir: str
    average: tuple[str, ...] = ()
    step: int | str = "last"
    head: str = "zeros"
    modules: tuple[str, ...] | None = None
    weights: str = "copied"

    def problems(self) -> list[str]:
        """Every problem with the values, in words."""
        found = check.text("workdir", self.workdir)
        for other in self.average:
            found += check.text("average", other)
        places = set() if found else {os.path.realpath(x) for x in (self.workdir, *self.average)}
        if not found and len(places) <= len(self.average):
            found.append(f"average: expected each run once, got {self.workdir}, {self.average}")
        if isinstance(self.step, str):
            found += check.choice("step", self.step, STEP_NAMES)
        else:
            found += check.integer("step", self.step, low=0)
        found += check.choice("head", self.head, HEADS)
        found += check.choice("weights", self.weights, WEIGHTS)
        if self.modules is not None:
            found += check.names("modules", self.modules)
            if not found and HEAD in self.modules:
                found.append(
                    f"modules: expected modules other than {HEAD!r}, got {self.modules!r}; "
                    "leave it out, and take it by head 'keep'"
                )
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForkSpec:
    """From which step on a run goes another way than the same run without it.

    Until then both are the same to the bit, so that the two are copies of one run that part at
    this step (J. Frankle et al., Linear mode connectivity and the lottery ticket hypothesis, 2020).

    Attributes:
      step: the first step that differs, from 0.
      seed: of the order of the data, augmentation and mixup from this step on; int32 ≥ 0.
      noise: standard deviation of Gaussian noise that is added to the weights before this step,
        as a share of the root mean square of each tensor; drawn by `seed`, at least 0.
    """

    step: int
    seed: int
    noise: float = 0.0

    def problems(self) -> list[str]:
        """Every problem with the values, in words."""
        found = check.integer("step", self.step, low=0)
        found += check.integer("seed", self.seed, low=0, high=2**31 - 1)
        return found + check.single("noise", self.noise, low=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One training run.

    Attributes:
      name: its name in records and messages.
      kind: free label: "P", "P-T", "RI-T" …
      seed: of initial weights, order of the data, augmentation and mixup; int32 ≥ 0.
      model: the model.
      data: training and test data, batch size and augmentation (`tlx.data.spec.DataSpec`).
      optim: the optimiser.
      loss: "softmax" (one class an example) or "multilabel" (a logit for each label).
      label_smoothing: share of each target that is spread evenly over all classes in training, in
        [0, 1); of "softmax".
      mixup: parameter of the Beta distribution of mixup; 0: none.
      accumulate: parts in which a batch is computed one after another, in the memory of one; their
        gradients are summed, so that the step is that of the whole batch, up to rounding. Batch
        normalisation uses the statistics of its part.
      ema: decay of the exponential moving average of weights and batch statistics, in [0, 1): after
        a step `a = ema·a + (1 − ema)·w`, from a = w at step 0. It is then what is evaluated, saved
        and compared as the run's weights; 0: the weights themselves.
      num_steps: optimiser steps; 0 only evaluates and saves the initial weights.
      eval_every: evaluate train and test sets every n steps, at step 0 and at the end.
      log_every: write the loss of the current batch every n steps; 0: never.
      checkpoint: the steps whose weights are kept.
      init_from: weights to start from; None: random initialisation.
      fork: from which step on it goes another way than without; None: it does not.
    """

    name: str
    kind: str
    seed: int
    model: ModelSpec
    data: DataSpec
    optim: OptimSpec
    num_steps: int
    eval_every: int
    loss: str = "softmax"
    label_smoothing: float = serial.later(0.0)
    mixup: float = 0.0
    accumulate: int = serial.later(1)
    ema: float = serial.later(0.0)
    log_every: int = 0
    checkpoint: CheckpointSpec = CheckpointSpec()
    init_from: InitFrom | None = None
    fork: ForkSpec | None = None

    def problems(self) -> list[str]:
        """Every problem in this spec and the specs in it, in words, each with its field."""
        found = check.text("name", self.name) + check.text("kind", self.kind)
        found += check.integer("seed", self.seed, low=0, high=2**31 - 1)
        found += check.choice("loss", self.loss, LOSSES)
        found += check.single("mixup", self.mixup, low=0)
        found += check.single(
            "label_smoothing", self.label_smoothing, low=0, high=1, open_high=True
        )
        found += check.single("ema", self.ema, low=0, high=1, open_high=True)
        found += check.integer("accumulate", self.accumulate, low=1)
        found += check.integer("num_steps", self.num_steps, low=0)
        found += check.integer("eval_every", self.eval_every, low=1)
        found += check.integer("log_every", self.log_every, low=0)
        for field in ("model", "data", "optim", "checkpoint", "init_from", "fork"):
            part = getattr(self, field)
            if part is None and field in ("init_from", "fork"):
                continue
            if not hasattr(part, "problems"):
                found.append(f"{field}: expected its dataclass, got {part!r}")
                continue
            found += [f"{field}.{problem}" for problem in part.problems()]
        return found if found else self._cross_problems()

    def _cross_problems(self) -> list[str]:
        found = []
        if self.label_smoothing and self.loss != "softmax":
            found.append(
                f"label_smoothing: expected 0 for loss {self.loss!r}, which has no classes"
            )
        if self.data.batch_size % self.accumulate:
            found.append(
                f"accumulate: expected a divisor of data.batch_size ({self.data.batch_size}), got "
                f"{self.accumulate}"
            )
        if self.optim.warmup_steps > self.num_steps:
            found.append(
                f"optim.warmup_steps: expected at most num_steps ({self.num_steps}), "
                f"got {self.optim.warmup_steps}"
            )
        for field, steps in (
            ("optim.boundaries", self.optim.boundaries),
            ("checkpoint.steps", self.checkpoint.steps),
        ):
            late = [step for step in steps if step > self.num_steps]
            if late:
                found.append(
                    f"{field}: expected steps of at most num_steps ({self.num_steps}), got {late}"
                )
        return found + self._fork_problems() + self._module_problems()

    def _fork_problems(self) -> list[str]:
        if self.fork is None:
            return []
        if self.fork.step >= max(self.num_steps, 1):
            return [
                f"fork.step: expected a step before num_steps ({self.num_steps}), "
                f"got {self.fork.step}"
            ]
        if self.fork.seed == self.seed and not self.fork.noise:
            return [
                f"fork.seed: expected another one than seed ({self.seed}), or noise above 0, so "
                "that the run differs from the one without fork"
            ]
        return []

    def _module_problems(self) -> list[str]:
        taken = (self.init_from and self.init_from.modules) or ()
        if not (taken or self.optim.freeze):
            return []
        options = tuples(self.model.options)
        model = models.make(self.model.name, num_classes=2, **options)
        known = getattr(model, "module_names", None)
        if known is None:
            fields = {"init_from.modules": taken, "optim.freeze": self.optim.freeze}
            return [
                f"{field}: expected none of model {self.model.name!r}, which has no "
                f"`module_names` (a tuple, of the first level of its parameter tree), got {names!r}"
                for field, names in fields.items()
                if names
            ]
        found = check.known("init_from.modules", taken, known)
        found += check.known("optim.freeze", self.optim.freeze, known)
        if set(known) <= set(self.optim.freeze):
            found.append("optim.freeze: expected a module that is left to train, got all of them")
        return found


def require_valid(spec: RunSpec) -> None:
    """Raises unless the spec has no problems.

    Raises:
      TypeError: it is no spec.
      ValueError: listing all problems.
    """
    if not isinstance(spec, RunSpec):
        raise TypeError(
            f"expected a RunSpec, got {type(spec).__name__}; tlx.config.build makes one of a config"
        )
    found = spec.problems()
    if found:
        name = spec.name
        raise ValueError(
            f"expected a valid spec of run {name!r}, got:\n" + "\n".join(f"  {p}" for p in found)
        )


def digest(spec: RunSpec) -> str:
    """The sha256 (hex) of everything that determines the numbers of the run.

    Left out: `name`, `kind`; and the paths in `init_from` and `data.folder` (the place of a folder
    does not matter; the weights from there are identified by their digest in the run's
    origin, see `tlx.checkpoints.identity`).
    """
    fields = without_places(serial.lasting(spec))
    del fields["name"], fields["kind"]
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def without_places(values: Mapping[str, Any]) -> dict[str, Any]:
    """The spec's dict without the paths of folders, which do not matter."""
    found = dict(values)
    for part, fields in (("init_from", ("workdir", "average")), ("data", ("folder",))):
        if found.get(part):
            found[part] = {key: value for key, value in found[part].items() if key not in fields}
    return found
