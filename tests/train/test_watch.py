"""What a run is seen to do with its time: by a clock that the test moves, and in whole runs."""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from tests.train.test_loop import Stop, assert_same_files, run, stopping_at
from tests.train.tiny import make_spec
from tlx.core.sharding import make_mesh
from tlx.train import costs, telemetry, tracing, trackers
from tlx.train import watch as watch_lib
from tlx.train.step_times import Dispatched, StepTimes

BATCH = 16
COMPILE = costs.COMPILING[-1]


class Clock:
    """Seconds that pass when they are told to; the time of day may jump."""

    def __init__(self) -> None:
        self.now, self.jumped = 100.0, 1e9

    def __call__(self) -> float:
        return self.now

    def time_of_day(self) -> float:
        return self.now + self.jumped

    def pass_by(self, seconds: float) -> None:
        self.now += seconds

    def compile(self, seconds: float) -> None:
        self.now += seconds
        jax.monitoring.record_event_duration_secs(COMPILE, seconds)


class Result:
    """Of a step that takes time on the device, whoever waits for it first."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock, self._seconds = clock, seconds

    def block_until_ready(self) -> "Result":
        seconds, self._seconds = self._seconds, 0.0
        self._clock.pass_by(seconds)
        return self


class Run:
    """A watched run of no model; `step` has each step done before it returns."""

    def __init__(self, workdir: Path, clock: Clock, begun: int | None = None, **start: Any) -> None:
        job: Any = SimpleNamespace(
            spec=make_spec(num_steps=100),
            workdir=workdir,
            mesh=make_mesh(jax.devices()[:1]),
            step_config=None,
        )
        self.clock, self.number = clock, begun or 0
        asked = watch_lib.Start(now=clock, time_of_day=clock.time_of_day, **start)
        clock.pass_by(2.0)  # loading data, say
        self.watch = watch_lib.Watch(job, begun, None, asked)

    def step(
        self, data: float, compute: float, compiling: float = 0.0, augmenting: float = 0.0
    ) -> None:
        def batches() -> Iterator[int]:
            self.clock.pass_by(data)
            self.clock.compile(augmenting)
            yield 0

        self.watch.batch(batches())
        if compiling:
            self.clock.compile(compiling)
        self.number += 1
        self.watch.stepped(self.number, Result(self.clock, compute))
        self.watch._times.drain()


@pytest.fixture(autouse=True)
def known_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """1e6 operations a step, of a device that can do 1e7 a second."""

    def flops(config: Any, mesh: Any, *arguments: Any) -> float:
        return 1e6

    monkeypatch.setattr(costs, "step_flops", flops)
    monkeypatch.setattr(costs, "peak", lambda device, dtype: 1e7)
    monkeypatch.setattr(costs, "memory", lambda devices: costs.Memory("device", 5, 7))


def seconds_of(line: telemetry.Line) -> dict[str, float]:
    kinds = ("step", *telemetry.KINDS, "training", "interval")
    return {kind: line[f"{kind}_seconds"] for kind in kinds}


def test_each_second_is_counted_once(tmp_path: Path):
    clock = Clock()
    run = Run(tmp_path, clock)
    with run.watch as watch:
        with watch.during("evaluation"):
            clock.pass_by(0.5)
            clock.compile(1.0)
        watch.interval()  # without a step: no line
        clock.compile(0.75)
        clock.pass_by(0.5)
        run.step(data=0.25, compute=0.25, compiling=2.0)
        for compute in (0.25, 0.5, 1.0):
            run.step(data=0.125, compute=compute)
        with watch.during("evaluation"):
            clock.pass_by(0.75)
        watch.interval()
        with watch.during("checkpoint"):
            clock.pass_by(0.75)
        clock.pass_by(0.125)
    start, line, end = telemetry.read(tmp_path)
    assert start == {
        "event": "start",
        "step": 0,
        "from_step": 0,
        "time": 1e9 + 100,
        "seconds": 0.0,
        "devices": 1,
        "device_kind": "cpu",
        "processes": 1,
        "batch_size": BATCH,
        "dtype": "float32",
        "peak_flops": 1e7,
    }
    training = 0.25 + 3 * 0.125 + 2.0
    assert seconds_of(line) == pytest.approx(
        {
            "step": 2.0,
            "data": 0.625,
            "evaluation": 1.25,
            "checkpoint": 0.0,
            "compile": 3.75,
            "start": 2.5,
            "training": training,
            "interval": 2.5 + 1.25 + 3.75 + training,
        }
    )
    assert (line["step"], line["from_step"], line["event"]) == (4, 0, "interval")
    assert line["images_per_second"] == pytest.approx(4 * BATCH / training, abs=1e-5)
    assert line["seconds_per_step"] == 0.5
    assert line["seconds_per_step_deviation"] == pytest.approx(np.std([1, 1, 2, 4]) / 4, abs=1e-5)
    assert line["data_share"] == pytest.approx(0.625 / training, abs=1e-5)
    assert line["utilisation"] == pytest.approx(4e6 / training / 1e7, abs=1e-6)
    assert (line["memory_of"], line["memory_bytes"], line["memory_peak_bytes"]) == ("device", 5, 7)
    assert (end["event"], end["steps"], end["checkpoint_seconds"]) == ("end", 0, 0.75)
    assert end["training_seconds"] == 0.125
    found = telemetry.spent([start, line, end])
    assert found.wall == clock.now - 100
    assert found.other == pytest.approx(0.125)


def test_steps_that_follow_each_other_and_data_that_comes_while_they_run():
    now = iter([10.0, 11.5, 15.0])
    times = StepTimes(0, lambda: next(now))
    for asked, given in ((0.0, 9.0), (9.1, 9.2), (9.3, 14.0)):
        times.add(Dispatched(1, asked, given, given), np.zeros(()))
    times.drain()
    found = times.take()
    times.close()
    # the second began when the first was done, the third when its data came
    assert found.seconds == pytest.approx([1.0, 1.5, 1.0])
    assert found.waited == pytest.approx(9.0 + 0.0 + 2.5)
    assert times.take().seconds == []


def test_a_step_that_fails_is_not_counted():
    class Fails:
        def block_until_ready(self) -> None:
            raise RuntimeError("out of memory")

    times = StepTimes(3, lambda: 1.0)
    times.add(Dispatched(4, 0.0, 0.0, 0.0), Fails())
    times.add(Dispatched(5, 0.5, 0.5, 0.5), np.zeros(()))
    times.drain()
    assert (times.last, times.take().seconds) == (5, [0.5])
    times.close()


def test_a_line_every_ten_seconds_and_progress_every_second(tmp_path: Path):
    told = []
    run = Run(tmp_path, Clock(), progress=lambda *each: told.append(each))
    with run.watch:
        for _ in range(60):
            run.step(data=0.0, compute=0.4)
    steps = [line["step"] for line in telemetry.read(tmp_path) if line["event"] == "interval"]
    assert len(steps) == 2
    assert 20 <= len(told) <= 25
    step, total, numbers = told[-1]
    assert (total, step) == (100, 58)
    assert numbers["images_per_second"] == pytest.approx(BATCH / 0.4)
    assert numbers["seconds_left"] == pytest.approx(0.4 * (100 - step), rel=0.05)


def test_a_start_after_a_kill_goes_on_in_the_file(tmp_path: Path):
    clock = Clock()
    first = Run(tmp_path, clock)
    first.watch.__enter__()
    for _ in range(3):
        first.step(data=0.0, compute=1.0)
    first.watch.interval()
    first.watch._times.close()  # killed
    clock.jumped -= 5000.0  # and the clock set back
    second = Run(tmp_path, clock, begun=2)
    second.watch.__enter__()
    second.step(data=0.0, compute=1.0)
    second.watch.interval()
    second.watch.__exit__(Stop, Stop("so it goes\non"), None)
    *lines, stop = telemetry.read(tmp_path)
    assert [line["event"] for line in lines] == ["start", "interval", "start", "interval"]
    assert (stop["event"], stop["reason"]) == ("stop", "Stop: so it goes on")
    found = telemetry.spent([*lines, stop])
    assert (found.steps, found.repeated, found.stopped, found.starts) == (3.0, 1.0, 0.0, 2)


def test_a_file_that_cannot_be_written_warns_once(tmp_path: Path, caplog: Any):
    run = Run(tmp_path, Clock())
    with caplog.at_level(logging.WARNING, "tlx"), run.watch as watch:
        (tmp_path / telemetry.FILE).unlink()
        (tmp_path / telemetry.FILE).mkdir()
        for _ in range(3):
            run.step(data=0.0, compute=1.0)
            watch.interval()
    assert [record.message.partition(":")[0] for record in caplog.records] == [telemetry.FILE]
    assert "training goes on without it" in caplog.text


def test_watching_changes_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spec = make_spec(checkpoint={"resume_every": 2})
    run(spec, tmp_path / "watched")
    with pytest.raises(Stop):
        run(spec, tmp_path / "stopped", progress=stopping_at(7))
    run(spec, tmp_path / "stopped", trace=tracing.Trace(0, 2))
    assert_same_files(tmp_path / "watched", tmp_path / "stopped")
    assert list((tmp_path / "stopped" / tracing.FOLDER).rglob("*.xplane.pb"))
    assert list((tmp_path / "stopped" / tracing.FOLDER).rglob("perfetto_trace.json.gz"))
    for name in ("batch", "stepped", "interval", "metrics", "show"):
        monkeypatch.setattr(watch_lib.Watch, name, BLIND.get(name, lambda *_: None))
    run(spec, tmp_path / "blind")
    assert_same_files(tmp_path / "watched", tmp_path / "blind")


BLIND = {"batch": lambda self, batches: next(batches)}


def test_a_whole_run_adds_up(tmp_path: Path):
    spec = make_spec(num_steps=12, eval_every=6)
    with pytest.raises(Stop):
        run(spec, tmp_path, progress=stopping_at(9))
    run(spec, tmp_path)
    lines = telemetry.read(tmp_path)
    assert [line["event"] for line in lines if line["event"] != "interval"] == [
        "start",
        "stop",
        "start",
        "end",
    ]
    assert [line for line in lines if line["event"] == "start"][1]["step"] == 8
    found = telemetry.spent(lines)
    named = [getattr(found, kind) for kind in ("steps", "repeated", "stopped", *telemetry.KINDS)]
    assert min(named) >= 0
    assert found.other >= -1e-3
    assert 0 < found.goodput < 1
    assert found.starts == 2
    assert sum(line.get("steps", 0) for line in lines) in (13, 14)  # 12, and those after step 8
    for line in lines:
        assert json.loads(json.dumps(line, allow_nan=False)) == line


def test_a_trace_that_cannot_be_written_is_left_out(tmp_path: Path, caplog: Any):
    def begin(*_: Any, **__: Any) -> None:
        raise RuntimeError("Profile has already been started.")

    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING, "tlx"):
        patch.setattr(jax.profiler, "start_trace", begin)
        followed = tracing.Tracing(tracing.Trace(3, 2), tmp_path)
        due = []
        for done in range(1, 8):
            if followed.is_due(done):
                due.append(done)
                followed.turn(done)
        followed.end()
    assert due == [3]
    assert caplog.messages == [
        "trace: RuntimeError: Profile has already been started.; training goes on without it"
    ]


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        (tracing.Trace(1, 0), "trace.steps: expected an integer of at least 1, got 0"),
        (tracing.Trace(-1, 2), "trace.step: expected an integer of at least 0, got -1"),
        (tracing.Trace(1.5, 1), "trace.step: expected an integer of at least 0, got 1.5"),  # type: ignore[arg-type]
        ((1, 2), "trace: expected Trace(step, steps) or None, got (1, 2)"),
    ],
    ids=str,
)
def test_a_trace_of_no_steps_stops_a_run_before_anything(
    trace: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        run(make_spec(), tmp_path / "run", trace=trace)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("step", "begun", "is_reached"),
    [(100, None, False), (99, None, True), (0, 99, False), (0, 98, True)],
)
def test_a_trace_that_a_run_does_not_reach_is_left_out(
    step: int, begun: int | None, is_reached: bool, tmp_path: Path, caplog: Any
) -> None:
    with caplog.at_level(logging.WARNING, "tlx"):
        watched = Run(tmp_path, Clock(), begun, trace=tracing.Trace(step, 2)).watch
    assert watched._tracing.is_due(99) == is_reached
    assert caplog.messages == ([] if is_reached else [WARNED.format(step, (begun or 0) + 1)])


WARNED = (
    "trace: expected steps after the first of this start ({1}) and up to num_steps (100), got "
    "those after step {0}; training goes on without it"
)


def test_unknown_trackers_stop_a_run_before_anything(tmp_path: Path):
    with pytest.raises(ValueError, match="log_to: unknown tracker 'tensorbord'; did you mean"):
        run(make_spec(), tmp_path / "run", log_to=("tensorbord",))
    assert not (tmp_path / "run").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(trackers.PACKAGES, "wandb", "no_such_package")
        with pytest.raises(ValueError, match=r"pip install '\.\[wandb\]'"):
            run(make_spec(), tmp_path / "run", log_to=("wandb",))
    assert not (tmp_path / "run").exists()


def test_compiling_what_augments_is_no_waiting_for_data(tmp_path: Path):
    run = Run(tmp_path, Clock())
    with run.watch as watch:
        run.step(data=0.25, compute=0.25, augmenting=8.0)
        run.step(data=0.25, compute=0.25)
        watch.interval()
    lines = [line for line in telemetry.read(tmp_path) if line["event"] == "interval"]
    assert [sum(line[f"{kind}_seconds"] for line in lines) for kind in ("data", "compile")] == [
        0.5,
        8,
    ]
