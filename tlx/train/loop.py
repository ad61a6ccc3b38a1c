"""The only training loop."""

import contextlib
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from tlx import checkpoints
from tlx.checkpoints import owner
from tlx.core import sharding
from tlx.train import distributed, metrics_log, optim, resuming, schedules, stopping
from tlx.train import job as job_lib
from tlx.train import spec as spec_lib
from tlx.train import watch as watch_lib
from tlx.train import workdir as workdir_lib
from tlx.train.hooks import Progress
from tlx.train.job import Job
from tlx.train.spec import RunSpec
from tlx.train.state import NEVER, TrainState, forked
from tlx.train.step import StepInputs
from tlx.train.tracing import Trace
from tlx.train.workdir import RunResult


class NonFiniteLossError(FloatingPointError):
    """The loss of a run became NaN or infinite; the message says where and what to do."""


def train(
    spec: RunSpec,
    workdir: str | Path,
    *,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
    log_to: Sequence[str] = (),
    trace: Trace | None = None,
) -> RunResult:
    """The result of a run, trained or continued from where it was stopped.

    Evaluates training, held-out and test set at step 0, every `eval_every` steps and at the
    end, and writes `config.json`, `metrics.jsonl`, `telemetry.jsonl` (where its time went),
    `checkpoints/` and, when all is done, `result.json`. A run that was stopped at any point and
    started again leaves the same metrics and weights as one that was not, bit for bit on the same
    devices; if its newest checkpoint is damaged it continues from the last good one, and logs that.
    A run that is done returns at once, if its data and its start are unchanged. In a distributed
    run every process calls this in the same way; the first writes.

    Args:
      spec: what to do.
      workdir: folder of this run alone; made if absent.
      mesh: from `tlx.core.sharding.make_mesh`; None: all devices.
      progress: called as the run goes on; see `tlx.train.hooks.Progress`.
      log_to: where its numbers go besides, "tensorboard" or "wandb" (`tlx.train.trackers`).
      trace: the steps that the profiler sees; None: none.

    Returns:
      The final and best metrics; see `RunResult`.

    Raises:
      tlx.checkpoints.owner.BusyError: another process trains in the workdir.
      TypeError: a spec that is no `RunSpec`, or a mesh that is none.
      ValueError: problems of the spec, all at once; a workdir that holds another config, with
        the fields that differ, or the same run on other data or from another start, with what is
        there and here; data, model or `init_from` that do not fit; no undamaged checkpoint; a
        tracker that is not installed. Before any training.
      NonFiniteLossError: the loss became NaN or infinite; says at which step, and which
        checkpoint is the last good one, which stays.
      tlx.train.distributed.PeerError: another process of a distributed run has ended.
      tlx.train.stopping.Stopped: SIGTERM or SIGINT asked to stop, to the main thread; the run was
        saved after the step it was at, in all processes the same. A KeyboardInterrupt.

    Cost: beyond the compiled step some 0.3 to 0.7 ms of host time a step (placing the batch).
    """
    start = watch_lib.Start(progress, log_to=log_to, trace=trace)
    spec_lib.require_valid(spec)
    workdir, origin = Path(workdir), resuming.origin_of(spec)
    done = _result_there(workdir, spec, origin)
    if done is not None:
        _complete(workdir, spec)
        return done
    job = job_lib.make_job(spec, workdir, mesh or sharding.make_mesh(), origin)
    with contextlib.ExitStack() as stack:
        stack.enter_context(distributed.peers())
        # a signal while this waits for another process's end has no step to wait for
        tell = logging.getLogger("tlx").warning
        primary = distributed.is_primary()
        held = stack.enter_context(owner.hold(workdir, tell=tell)) if primary else None
        asked = stack.enter_context(stopping.noted())
        distributed.wait_for_all("the workdir is held")
        done = _result_there(workdir, spec, origin)  # another process may have been there since
        result = done or _trained(job, start, held, asked)
        _tidy(workdir, spec)
    distributed.wait_for_all("result written")  # the next run may start from this one
    return result


def _result_there(workdir: Path, spec: RunSpec, origin: checkpoints.Origin) -> RunResult | None:
    """The result that a workdir holds, if any; raises where what it holds is of another run."""
    workdir_lib.require_same(workdir, spec)
    resuming.require_same(workdir, origin)
    return workdir_lib.read_result(workdir)


def _complete(workdir: Path, spec: RunSpec) -> None:
    """What a run that is done lacks or has too much, since it was killed at its end, or damaged."""
    has_config = (workdir / workdir_lib.CONFIG_FILE).exists()
    if not distributed.is_primary() or (has_config and checkpoints.is_tidy(workdir)):
        return
    with contextlib.suppress(owner.BusyError), owner.hold(workdir):  # who holds it does the same
        if not has_config:
            workdir_lib.write_config(workdir, spec)
        _tidy(workdir, spec)


def _trained(
    job: Job, start: watch_lib.Start, held: owner.Held | None, asked: stopping.Asked
) -> RunResult:
    spec, workdir = job.spec, job.workdir
    workdir_lib.write_config(workdir, spec)
    begun, state = resuming.newest_good(job) or (None, None)
    with (
        watch_lib.Watch(job, begun, held, start) as watch,
        metrics_log.MetricsLog(workdir, last_step=-1 if begun is None else begun) as log,
        checkpoints.Writer(
            workdir,
            scheduled=_scheduled(spec),
            keep_best=spec.checkpoint.keep_best,
            require=(lambda: None) if held is None else held.require,
        ) as writer,
    ):
        if begun is None or begun < spec.num_steps:
            _Run(job, log, writer, watch, held).go(state, asked)
            with watch.during("checkpoint"):
                writer.wait()
    if held is not None:
        held.require()
    return workdir_lib.write_result(workdir, spec, log.lines, seconds=watch.seconds)


def _tidy(workdir: Path, spec: RunSpec) -> None:
    if distributed.is_primary():
        keep_best = spec.checkpoint.keep_best
        checkpoints.tidy(workdir, scheduled=_scheduled(spec), keep_best=keep_best)


def _scheduled(spec: RunSpec) -> frozenset[int]:
    keep = spec.checkpoint
    return checkpoints.scheduled(spec.num_steps, rule=keep.rule, steps=keep.steps, every=keep.every)


class _Run:
    """One pass of the loop, with what has not been written yet."""

    def __init__(
        self,
        job: Job,
        log: metrics_log.MetricsLog,
        writer: checkpoints.Writer,
        watch: watch_lib.Watch,
        held: owner.Held | None,
    ) -> None:
        self._job, self._spec, self._held = job, job.spec, held
        self._log, self._writer, self._watch = log, writer, watch
        self._scheduled = _scheduled(job.spec)
        self._hyper = sharding.replicate(optim.hyper_of(job.spec.optim), job.mesh)
        self._pending: dict[str, Any] | None = None

    def go(self, state: TrainState | None, asked: stopping.Asked) -> None:
        """Trains from the state of the newest checkpoint, or from the start (None), to the end."""
        spec, last = self._spec, self._writer.last
        if state is None:
            state = job_lib.new_state(self._job)
            self._after(0, state)
        batches = self._job.batches(last or 0)
        for step in range(last or 0, spec.num_steps):
            if spec.fork is not None and step == spec.fork.step:
                key = sharding.replicate(jax.random.key(spec.fork.seed), self._job.mesh)
                forked_state = forked(state, key, spec.fork.noise, spec.optim.freeze)
                state = sharding.place(forked_state, self._job.mesh)
            rate = np.float32(schedules.rate_at(spec.optim, step, spec.num_steps))
            batch, numbers = self._watch.batch(batches), StepInputs(rate, self._hyper)
            state, metrics = self._job.step_fn(state, batch, numbers)
            self._watch.stepped(step + 1, metrics, state, batch, numbers)
            self._writer.check()
            if spec.log_every and (step + 1) % spec.log_every == 0:
                self._flush()
                self._pending = {"step": step + 1, "rate": float(rate), **metrics}
            self._after(step + 1, state)
            signum = asked()  # at the end it is raised when the result is there
            if signum is not None and step + 1 < spec.num_steps:
                self._save(step + 1, state, None)
                raise stopping.Stopped(signum, f"after step {step + 1} of run {spec.name!r}")

    def _after(self, step: int, state: TrainState) -> None:
        """Evaluates and saves where the step is due for it."""
        spec = self._spec
        is_end = step == spec.num_steps
        score, is_best = None, False
        if is_end or step % spec.eval_every == 0:
            score, is_best = self._evaluate(step, state)
        keep = spec.checkpoint
        wants_resume = keep.resume_every and step % keep.resume_every == 0
        if step in self._scheduled or wants_resume or (keep.keep_best and is_best):
            self._save(step, state, score)

    def _evaluate(self, step: int, state: TrainState) -> tuple[float | None, bool]:
        """The score to select by and whether it is the best, from clean metrics that are logged."""
        self._flush()
        self._require_finite(step, state)
        before = metrics_log.best(self._log.lines)
        score: float | None = None
        for split in self._job.streams:
            with self._watch.during("evaluation"):
                results = self._job.evaluate(state.variables, split)
            if not math.isfinite(results["loss"]):
                self._stop(step, f"the {split} loss is {results['loss']} at step {step}")
            self._write({"step": step, "split": split, **results})
            if split == self._job.selected_on:
                score = metrics_log.score(results)
        self._watch.interval()
        self._watch.show(step)
        best = None if before is None else metrics_log.score(before)
        return score, best is None or (score is not None and score > best)

    def _save(self, step: int, state: TrainState, score: float | None) -> None:
        self._flush()
        self._require_finite(step, state)
        self._watch.interval()
        self._log.sync()
        try:
            with self._watch.during("checkpoint"):
                self._writer.save(
                    step,
                    state.variables,
                    origin=checkpoints.at(self._job.origin, step, score),
                    resume=None if step == self._spec.num_steps else resuming.resume_tree(state),
                )
        except checkpoints.NonFiniteError as error:
            self._stop(step, str(error))

    def _flush(self) -> None:
        """Writes the batch metrics that were left on the device while the next step ran.

        Before anything is written, so that here it is seen whether the workdir is still this run's.
        """
        if self._held is not None:
            self._held.require()
        if self._pending is None:
            return
        line, self._pending = jax.device_get(self._pending), None
        if line["bad_step"] != NEVER:
            self._stop(int(line["bad_step"]) + 1)
        numbers = {name: float(line[name]) for name in ("loss", "accuracy", "rate")}
        counts = {"count": int(line["count"])}
        self._write({"step": line["step"], "split": "batch", **numbers, **counts})
        self._watch.show(line["step"])

    def _write(self, line: metrics_log.Line) -> None:
        self._log.write(line)
        self._watch.metrics(line)

    def _require_finite(self, step: int, state: TrainState) -> None:
        bad = int(state.bad_step)
        if bad != NEVER:
            self._stop(bad + 1)

    def _stop(self, step: int, what: str | None = None) -> None:
        """Raises, after the checkpoints written so far are on disk."""
        unsaved: OSError | None = None
        try:
            self._writer.wait()
        except OSError as error:
            unsaved = error
        spec, last = self._spec, self._writer.last
        good = "there is no good checkpoint"
        if last is not None:
            good = f"the last good checkpoint is {checkpoints.step_path(self._job.workdir, last)}"
        if unsaved is not None:
            good += f", since a later one could not be written ({unsaved})"
        what = what or f"the loss of the batch of step {step} is not finite"
        raise NonFiniteLossError(
            f"run {spec.name!r} stopped: {what}; {good}. Lower optim.rate (now "
            f"{spec.optim.rate:g}), or add optim.warmup_steps (now {spec.optim.warmup_steps}) or "
            "optim.grad_clip, and train in another workdir; the same config would stop again."
        ) from unsaved
