"""The files of a run: of one config only, and marked when it is done."""

import json
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from tlx import checkpoints
from tlx.config import serial, typed
from tlx.train import distributed, metrics_log
from tlx.train.spec import RunSpec, digest, without_places

CONFIG_FILE = "config.json"
RESULT_FILE = "result.json"

_REWRITE = "delete {} and give the command again that trains, which writes it anew"


class RunResult(NamedTuple):
    """The result of a run.

    Attributes:
      workdir: where its files are.
      name: of the run.
      step: the last step.
      train: loss, accuracy and count on the training set at the last step, clean.
      test: the same on the test set.
      best_step: the evaluation with the best accuracy on the examples held out of training, or
        on the test set where there are none; the earliest of equals.
      best_test: loss, accuracy and count on the test set there.
      mean_train_accuracy: over all evaluations, that of step 0 too; the paper's speed of
        optimisation leaves it out, see `tlx.analyses.function.learning.average`.
      digest: sha256 of the spec (`tlx.train.spec.digest`).
      identity: sha256 of the last weights' origin (`tlx.checkpoints.identity`).
      origin: that origin (`tlx.checkpoints.provenance`).
      seconds: that the run took, in the process that finished it, without compilation of
        the first step.
    """

    workdir: str
    name: str
    step: int
    train: dict[str, float]
    test: dict[str, float]
    best_step: int
    best_test: dict[str, float]
    mean_train_accuracy: float
    digest: str
    identity: str
    origin: dict[str, Any]
    seconds: float


def require_same(workdir: str | Path, spec: RunSpec) -> None:
    """Raises if the workdir holds a run with another config.

    One that has not reached its first checkpoint does not count. The place of
    `init_from.workdir` may differ (folders move); what is in it is compared by
    `tlx.train.resuming`.

    Raises:
      ValueError: the workdir holds another config, naming the fields that differ.
    """
    path = Path(workdir) / CONFIG_FILE
    is_begun = (Path(workdir) / RESULT_FILE).exists() or checkpoints.steps(workdir)
    if not path.exists() or not is_begun:
        return
    theirs = _read(path)
    whole = typed.completed(RunSpec, theirs)
    theirs = theirs if whole is None else serial.to_dict(whole)
    ours = serial.to_dict(spec)
    differing = serial.differences(without_places(theirs), without_places(ours))
    if differing:
        raise ValueError(
            f"expected {path.parent} to hold a run of the same config, got one that differs in:\n"
            + "\n".join(f"  {line}" for line in differing)
            + "\nChoose another workdir, or delete that one to train anew."
        )


def write_config(workdir: str | Path, spec: RunSpec) -> None:
    """Creates the workdir, with the config that is enough to run again."""
    if distributed.is_primary():
        Path(workdir).mkdir(parents=True, exist_ok=True)
        text = json.dumps(serial.to_dict(spec), indent=2) + "\n"
        metrics_log.replace_text(Path(workdir) / CONFIG_FILE, text)


def read_config(workdir: str | Path, *, checks: bool = True) -> RunSpec:
    """The spec that a workdir was made with.

    Args:
      workdir: of the run.
      checks: whether the run can be done here; its config may register a model, say.

    Raises:
      ValueError: there is no config.json, or it is damaged or of another version of tlx.
    """
    path = Path(workdir) / CONFIG_FILE
    if not path.exists():
        raise ValueError(f"expected the workdir of a run that was started, but there is no {path}")
    if not checks and (found := typed.completed(RunSpec, _read(path))) is not None:
        return found
    try:
        return typed.build(RunSpec, _read(path))
    except typed.ConfigError as error:
        raise typed.ConfigError(
            f"{path}: expected the config of a run, but {error}\n"
            f"If it is damaged or of another version of tlx, {_REWRITE.format(path)}."
        ) from error


def _read(path: Path) -> dict[str, Any]:
    """An object of JSON that a run wrote.

    Raises:
      ValueError: it is damaged.
    """
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(
            f"{path}: expected JSON, got a damaged file ({error}); {_REWRITE.format(path)}"
        ) from error
    if not isinstance(values, dict):
        raise ValueError(
            f"{path}: expected a JSON object, got another value; {_REWRITE.format(path)}"
        )
    return values


def read_result(workdir: str | Path) -> RunResult | None:
    """The result of a run, or None if it is not done.

    Raises:
      ValueError: it is damaged or of another version of tlx; says what of it.
    """
    path = Path(workdir) / RESULT_FILE
    if not path.exists():
        return None
    values = _read(path)
    kinds = {name: kind for name, kind in get_type_hints(RunResult).items() if name != "workdir"}
    wrong = [f"no {name}" for name in kinds if name not in values]
    wrong += [
        f"{name} {value!r:.40}"
        for name, value in values.items()
        if name not in kinds or not _fits(value, kinds[name])
    ]
    if wrong:
        raise ValueError(
            f"{path}: expected the result of a run, got one with {', '.join(wrong)}, which is "
            f"damaged or of another version of tlx; {_REWRITE.format(path)}"
        )
    return RunResult(workdir=str(workdir), **values)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value of result.json is of its field's kind, with the keys that are read."""
    if kind == dict[str, float]:
        is_whole = isinstance(value, dict) and {"loss", "accuracy", "count"} <= value.keys()
        no_auc = {"auc": None}.items()  # where a label is the same in all examples
        return is_whole and all(_fits(x[1], float) or x in no_auc for x in value.items())
    if kind == dict[str, Any]:
        return isinstance(value, dict) and {"digest", "init_from"} <= value.keys()
    return type(value) in ((int, float) if kind is float else (kind,))


def write_result(
    workdir: str | Path, spec: RunSpec, lines: list[metrics_log.Line], *, seconds: float
) -> RunResult:
    """The result of a run from the lines of its metrics; marks it as done, atomically.

    Raises:
      ValueError: the lines lack the evaluation of the last step.
    """
    last = {line["split"]: line for line in lines if line["step"] == spec.num_steps}
    # no score is defined where no label has both values: the last step is as good as any
    best = metrics_log.best(lines) or last.get("valid") or last.get("test")
    tests = {line["step"]: line for line in lines if line["split"] == "test"}
    if best is None or not {"train", "test"} <= set(last):
        raise ValueError(
            f"expected the evaluation of step {spec.num_steps} in "
            f"{Path(workdir) / metrics_log.FILE}, got none. Delete the workdir to train anew."
        )
    origin = dict(checkpoints.origin(workdir, spec.num_steps))
    result = RunResult(
        workdir=str(workdir),
        name=spec.name,
        step=spec.num_steps,
        train=_numbers(last["train"]),
        test=_numbers(last["test"]),
        best_step=best["step"],
        best_test=_numbers(tests[best["step"]]),
        mean_train_accuracy=metrics_log.mean_train_accuracy(lines),
        digest=digest(spec),
        identity=checkpoints.identity(origin),
        origin=origin,
        seconds=seconds,
    )
    if distributed.is_primary():
        values = {name: value for name, value in result._asdict().items() if name != "workdir"}
        text = json.dumps(values, indent=2, allow_nan=False) + "\n"
        metrics_log.replace_text(Path(workdir) / RESULT_FILE, text)
    return result


def _numbers(line: metrics_log.Line) -> dict[str, float]:
    return {name: line[name] for name in ("loss", "accuracy", "auc", "count") if name in line}
