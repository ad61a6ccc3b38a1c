"""What a run does with its time, seen without slowing it: one object that the loop tells.

The time of an interval is cut into parts that do not overlap:

- steps: on the device, each from when the step before it was done and its batch was there
  (`tlx.train.step_times`);
- data: the device had nothing to do, since the next batch was not there. What is loaded while a
  step runs costs nothing, and is not counted;
- evaluation and checkpoint: in which the loop stood still for them. What is written to disk while
  steps run is not counted; it may make them slower;
- compile: tracing, lowering and compiling, or reading what was compiled before, wherever it
  happens, by JAX's own events;
- start: from the call of `train` to the first batch;
- and a rest, in which the host did something else while no step ran.

Training time is what is left without evaluation, checkpoint, compile and start. Images per second
are those of all devices over training time; `data_share` is that of data in training time;
`utilisation` is the model's floating-point operations (`costs.step_flops`) in a second of training
time, over the published peak of all devices (`costs.PEAKS`), None where there is none.
`seconds_per_step` is the mean of an interval's steps, with their standard deviation, median and
99th percentile.
"""

import collections
import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import jax

from tlx.checkpoints import owner
from tlx.train import costs, distributed, telemetry, tracing, trackers
from tlx.train.hooks import Clock, Progress, no_progress
from tlx.train.job import Job
from tlx.train.step_times import Dispatched, Steps, StepTimes
from tlx.train.tracing import Trace, Tracing

INTERVAL_SECONDS = 10.0
"""An interval that nothing else ends is ended after this time."""

SHOWN_SECONDS = 1.0
"""How often progress is shown where no evaluation does it."""


class Start:
    """The moment in which a run is started, and who is told of it.

    Args:
      progress: is called with what the run has learned, and how fast it is; None: nobody.
      log_to: names of trackers (`tlx.train.trackers`), which get the numbers of metrics
        and intervals.
      trace: the steps that the profiler sees; None: none.
      now: seconds by a clock that does not jump.
      time_of_day: seconds since 1970.

    Raises:
      ValueError: a tracker is not known or not installed, or a trace of no steps.
    """

    def __init__(
        self,
        progress: Progress | None = None,
        *,
        log_to: Sequence[str] = (),
        trace: Trace | None = None,
        now: Callable[[], float] = time.perf_counter,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        trackers.require(log_to)
        tracing.require(trace)
        self.progress, self.log_to, self.trace = progress or no_progress, log_to, trace
        self.now, self.time_of_day = now, time_of_day
        self.began, self.began_time, self.compiled = now(), time_of_day(), costs.compile_seconds()


class Watch:
    """Sees a run from its start on, and writes telemetry.jsonl; a context manager.

    In a distributed run the first process writes. The loop gets its batches by `batch` and says
    `stepped` after each step, puts `during` around what stands between steps, and says `interval`
    before it saves, so that no interval spans a checkpoint.

    Args:
      job: the run.
      begun: the step of the checkpoint that it goes on from; None where it begins.
      held: the ownership of the workdir, required before each line.
      start: when it was started.

    Cost: some microseconds a step here, and as many in a thread that waits for the device; once an
    interval a line is written.
    """

    def __init__(self, job: Job, begun: int | None, held: owner.Held | None, start: Start) -> None:
        self._job, self._begun, self._held, self._start = job, begun, held, start
        self._now, self._batch_size = start.now, job.spec.data.batch_size
        peak = costs.peak(job.mesh.devices.flat[0], job.spec.model.dtype)
        self._peak = None if peak is None else peak * job.mesh.size
        self._flops = _known_flops(telemetry.read(job.workdir))
        self._clock = Clock(start.now)
        self._tracing = Tracing(
            start.trace, job.workdir, begun=begun or 0, num_steps=job.spec.num_steps
        )
        # of this interval: when and after which step it began, what was spent in it on what, and
        # compilation until then
        self._marked, self._mark = start.began, begun or 0
        self._spent, self._compiled = collections.defaultdict[str, float](float), start.compiled
        # of this start: images and seconds of training until then
        self._images, self._training = 0, 0.0
        # of this step: when its batch was asked for and given, and compilation until then
        self._asked = self._given = self._compiled_given = math.nan
        self._shown, self._shown_at = dict[str, float](), start.began
        self._is_writing = distributed.is_primary()

    def __enter__(self) -> "Watch":
        """Begins, with the line of the start."""
        spec, mesh = self._job.spec, self._job.mesh
        names = self._start.log_to if distributed.is_primary() else ()
        self._trackers = trackers.Trackers(names, spec, self._job.workdir, self._begun)
        line = {
            **self._at("start", self._mark, self._start.began, self._start.began_time),
            "devices": mesh.size,
            "device_kind": mesh.devices.flat[0].device_kind,
            "processes": jax.process_count(),
            "batch_size": self._batch_size,
            "dtype": spec.model.dtype,
            "peak_flops": self._peak,
        }
        self._write(line)
        self._times = StepTimes(self._mark, self._now)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends, with the line of the end or of the stop."""
        self._tracing.end()
        self._times.close()
        if error is None:
            self._line("end")
        else:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            with contextlib.suppress(owner.LostError):  # the workdir is another's now
                self._line("stop", reason=reason)
        self._trackers.close()

    @property
    def seconds(self) -> float:
        """Since the first step of this start was done."""
        return self._clock.seconds

    def batch(self, batches: Iterator[Any]) -> Any:
        """The next of the batches."""
        self._asked = self._now()
        if math.isnan(self._given):
            self._spent["start"] += self._rest(self._asked)
        before = costs.compile_seconds()
        found = next(batches)
        self._given, self._compiled_given = self._now(), costs.compile_seconds()
        # what augments is compiled at the first batch: that is no waiting for data
        self._asked = min(self._given, self._asked + self._compiled_given - before)
        return found

    def stepped(self, step: int, result: Any, *arguments: Any) -> None:
        """A step was dispatched; the first one of a start is waited for.

        Args:
          step: its number, from 1.
          result: arrays that it computes, and nobody donates.
          arguments: with which a step could be called now.
        """
        compiled = self._given + costs.compile_seconds() - self._compiled_given
        self._times.add(Dispatched(step, self._asked, self._given, compiled), result)
        if not self._clock.is_started:
            jax.block_until_ready(result)
            self._clock.start(step)
            if self._flops is None and self._is_writing:
                with self.during("compile"):
                    job = self._job
                    self._flops = costs.step_flops(job.step_config, job.mesh, *arguments)
        if self._tracing.is_due(step):
            with self.during("trace"):
                self._tracing.turn(step)
        if self._given - self._marked >= INTERVAL_SECONDS:
            self._line("interval")
        if self._given - self._shown_at >= SHOWN_SECONDS:
            self.show(self._times.last)

    @contextlib.contextmanager
    def during(self, kind: str) -> Iterator[None]:
        """Counts what follows the steps until here as of a kind, but for compilation in it."""
        self._times.drain()
        before, compiled = self._now(), costs.compile_seconds()
        try:
            yield
        finally:
            compiled = costs.compile_seconds() - compiled
            self._spent[kind] += max(0.0, self._now() - before - compiled)

    def interval(self) -> None:
        """Ends an interval after the steps until here; one without steps goes on."""
        self._times.drain()
        self._line("interval")
        self._trackers.flush()

    def metrics(self, line: Mapping[str, Any]) -> None:
        """A line was added to metrics.jsonl."""
        self._trackers.metrics(line)
        prefix = "" if line["split"] == "batch" else f"{line['split']}_"
        for name in ("loss", "accuracy", "auc"):
            if line.get(name) is not None:
                self._shown[prefix + name] = line[name]

    def show(self, step: int) -> None:
        """Shows progress."""
        self._shown_at, total = self._now(), self._job.spec.num_steps
        numbers = {**self._shown, **self._clock.estimate(step, total)}
        images = self._images + self._batch_size * (self._times.last - self._mark)
        training = self._training + self._rest(self._shown_at)
        if images and training > 0:
            numbers["images_per_second"] = images / training
        self._start.progress(step, total, numbers)

    def _rest(self, now: float) -> float:
        """Seconds of this interval until now that were spent on nothing that is named."""
        named = sum(self._spent.values()) + costs.compile_seconds() - self._compiled
        return max(0.0, now - self._marked - named)

    def _line(self, event: str, **more: str) -> None:
        """Ends an interval, with a line; "interval" only if it has steps."""
        done = self._times.take()
        if event == "interval" and not done.seconds:
            return
        now, compiled = self._now(), costs.compile_seconds()
        rest = self._rest(now)
        is_training = not math.isnan(self._given)  # else there was no batch yet
        if not is_training:
            self._spent["start"] += rest
        self._spent["compile"] += compiled - self._compiled
        line = {
            **self._at(event, done.last, now, self._start.time_of_day()),
            **more,
            "interval_seconds": now - self._marked,
            **self._measured(done, rest if is_training else 0.0),
        }
        self._images += line["images"]
        self._training += line["training_seconds"]
        self._marked, self._mark, self._compiled = now, done.last, compiled
        self._spent.clear()
        line = {name: round(x, 6) if isinstance(x, float) else x for name, x in line.items()}
        self._write(line)
        if event == "interval":
            self._trackers.telemetry(line)

    def _measured(self, done: Steps, training: float) -> dict[str, Any]:
        """The parts of an interval and what follows from them."""
        kinds = ("evaluation", "checkpoint", "compile", "start")
        return {
            "step_seconds": math.fsum(done.seconds),
            "data_seconds": done.waited,
            **{f"{kind}_seconds": self._spent[kind] for kind in kinds},
            "training_seconds": training,
            "steps": len(done.seconds),
            "images": len(done.seconds) * self._batch_size,
            "flops_per_step": self._flops,
            **costs.memory(self._job.mesh.local_devices)._asdict(),
            **telemetry.measured(
                done.seconds,
                training,
                waited=done.waited,
                batch_size=self._batch_size,
                flops=self._flops,
                peak=self._peak,
            ),
        }

    def _at(self, event: str, step: int, now: float, time_of_day: float) -> dict[str, Any]:
        return {
            "event": event,
            "step": step,
            "from_step": self._mark,
            "time": time_of_day,
            "seconds": now - self._start.began,
        }

    def _write(self, line: dict[str, Any]) -> None:
        """Adds a line to the file; where it cannot be written, training goes on without it."""
        if self._held is not None:
            self._held.require()
        if self._is_writing:
            self._is_writing = trackers.attempt(
                telemetry.FILE, lambda: telemetry.append(self._job.workdir, line)
            )


def _known_flops(lines: Sequence[telemetry.Line]) -> float | None:
    """What an earlier start has counted."""
    return next((line["flops_per_step"] for line in lines if line.get("flops_per_step")), None)
