"""Whether a workdir holds the same run, and from which step it can continue."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from tlx import checkpoints
from tlx.core import sharding
from tlx.data import examples
from tlx.train import distributed, initial, metrics_log
from tlx.train import job as job_lib
from tlx.train import workdir as workdir_lib
from tlx.train.job import Job
from tlx.train.spec import RunSpec, digest
from tlx.train.state import TrainState

_REMEDY = "Choose another workdir, or delete that one to train anew."
_SHOWN = 12  # digits of a digest


def origin_of(spec: RunSpec) -> dict[str, Any]:
    """The origin of a run at step 0: its spec, the content of its examples, and its start.

    Raises:
      ValueError: data that cannot be opened, or no checkpoint to start from.
    """
    parent = None if spec.init_from is None else initial.find_origin(spec.init_from)
    data = examples.content(spec.data)
    return checkpoints.make_origin(spec.name, spec.kind, digest(spec), parent, data=data)


def require_same(workdir: Path, origin: checkpoints.Origin) -> None:
    """Raises if the workdir holds a run of another spec, other examples or another start.

    Raises:
      ValueError: stating what differs, there and here.
    """
    there = _recorded(workdir)
    if there is None:
        return
    lines = [*_of_spec(there, origin), *_of_data(there, origin), *_of_start(there, origin)]
    if lines:
        raise ValueError(
            f"expected {workdir} to hold the same run, got one with differences:\n"
            + "\n".join(f"  {line}" for line in lines)
            + f"\n{_REMEDY}"
        )


def _recorded(workdir: Path) -> checkpoints.Origin | None:
    """The origin of a run that is done, or else of its newest readable checkpoint."""
    done = workdir_lib.read_result(workdir)
    if done is not None:
        return done.origin
    damaged: checkpoints.DamagedError | None = None
    for step in reversed(checkpoints.steps(workdir)):
        try:
            return checkpoints.origin(workdir, step)
        except checkpoints.DamagedError as error:
            damaged = damaged or error
    if damaged is not None:
        raise damaged
    return None


def _of_spec(there: checkpoints.Origin, here: checkpoints.Origin) -> list[str]:
    if there["digest"] == here["digest"]:
        return []
    return [f"the config: {_short(there['digest'])} there, {_short(here['digest'])} here"]


def _of_data(there: checkpoints.Origin, here: checkpoints.Origin) -> list[str]:
    old, new = there.get("data") or {}, here["data"]
    return [
        f"the {split} data: {_told(old.get(split))} there, {_told(new.get(split))} here"
        for split in examples.SPLITS
        if old.get(split) != new.get(split)
    ]


def _told(part: Mapping[str, Any] | None) -> str:
    if part is None:
        return "not said"
    return f"{part['count']} examples (content {_short(part['digest'])})"


def _of_start(there: checkpoints.Origin, here: checkpoints.Origin) -> list[str]:
    old, new = there["init_from"], here["init_from"]
    if (old is None) == (new is None) and (
        old is None or checkpoints.identity(old) == checkpoints.identity(new)
    ):
        return []
    return [f"the start: it started from {_named(old)}, but now init_from is {_named(new)}"]


def _named(origin: checkpoints.Origin | None) -> str:
    if origin is None:
        return "random weights"
    said = (
        f"config {_short(origin['digest'])}, weights {_short(origin.get('weights') or 'not said')}"
    )
    return f"{origin['run']!r} step {origin['step']} ({said})"


def _short(digest: str) -> str:
    return digest[:_SHOWN]


def newest_good(job: Job) -> tuple[int, TrainState | None] | None:
    """The step from which a run continues: the newest that is undamaged.

    Later steps are damaged and removed, which is logged in one line; the run repeats them.

    Returns:
      The step and its state on the devices (None after the last step: nothing is left to do);
      None where there is no checkpoint.

    Raises:
      ValueError: there are checkpoints, but none to continue from; or one does not fit the model.
    """
    bad: list[checkpoints.DamagedError] = []
    for step in reversed(checkpoints.steps(job.workdir)):
        is_end = step == job.spec.num_steps
        resume = checkpoints.step_path(job.workdir, step) / "resume"
        if bad and not is_end and not resume.exists():
            continue  # all but the newest have dropped it, and are not damaged
        try:
            state = None if is_end else resumed_state(job, step)
            if is_end:
                checkpoints.restore(job.workdir, step, as_numpy=True)
        except checkpoints.DamagedError as error:
            bad.append(error)
            continue
        _require_metrics(job, step)
        if bad:
            _go_back(job, step, bad[0].what)
        return step, state
    if bad:
        raise ValueError(
            f"expected an undamaged checkpoint to continue run {job.spec.name!r} from, got none: "
            f"{bad[0].what}; delete {job.workdir} to train anew, or choose another workdir"
        ) from bad[0]
    return None


def _require_metrics(job: Job, step: int) -> None:
    """Raises if evaluations up to a step are not in the file of metrics."""
    lines = metrics_log.read(job.workdir, last_step=step)
    there = {(line["step"], line["split"]) for line in lines}
    for evaluated in range(0, step + 1, job.spec.eval_every):
        lacking = [split for split in job.streams if (evaluated, split) not in there]
        if lacking:
            raise ValueError(
                f"expected the evaluation of step {evaluated} on {', '.join(lacking)} in "
                f"{job.workdir / metrics_log.FILE}, got none. {_REMEDY}"
            )


def _go_back(job: Job, step: int, what: str) -> None:
    logging.getLogger("tlx").warning(
        "run %r goes on from step %d, its last good one: %s", job.spec.name, step, what
    )
    distributed.wait_for_all("checkpoints were read")
    if distributed.is_primary():
        checkpoints.keep_first(job.workdir, step)
    distributed.wait_for_all("damaged checkpoints are away")


def resume_tree(state: TrainState) -> dict[str, Any]:
    """The content of a checkpoint besides the weights, so that the run can continue."""
    found = {"opt_state": state.opt_state, "key": jax.random.key_data(state.key)}
    # a checkpoint's weights are the average, where one is kept
    return found if state.average is None else {**found, "trained": state.trained}


def resumed_state(job: Job, step: int) -> TrainState:
    """The state after `step` updates, from its checkpoint, on the devices.

    Raises:
      ValueError: the checkpoint does not fit the model.
      tlx.checkpoints.DamagedError: it is damaged.
    """
    fresh = job_lib.new_state(job)
    variables = checkpoints.restore(job.workdir, step, as_numpy=True)
    resume = checkpoints.restore_resume(job.workdir, step, resume_tree(fresh))
    average = None if fresh.average is None else variables
    trained = dict(resume.get("trained", variables))
    state = dataclasses.replace(
        fresh,
        step=jnp.int32(step),
        params=trained.pop("params"),
        collections=trained,
        average=average,
        opt_state=resume["opt_state"],
        key=jax.random.wrap_key_data(resume["key"]),
    )
    return sharding.place(state, job.mesh)
