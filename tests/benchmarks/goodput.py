"""What watching, saving and being killed cost training: `python -m tests.benchmarks.goodput`.

Prints a line of JSON for each: its name, the value, the aim, and what it was measured on.

- `watching_over_step`: the processor time of steps that are watched over that of the same steps
  unwatched, in turns in one process; and the microseconds of a watched step that computes nothing.
- `checkpoint_share_of_step`: the share of training in which it stands still to save, every 100
  steps; not the wait for the last checkpoint at the end, which is printed beside it, as is what
  all of training takes over training that saves nothing: writing goes on behind the steps.
- `goodput_under_kills`: the share of the time since the first start that is not in steps which were
  kept, of a run that is killed (SIGKILL) a minute after each start and started again at once.

The first two take a minute or two each, the last one a minute a kill.
"""

import argparse
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tlx import config
from tlx.core import sharding
from tlx.studies import resources
from tlx.train import job as job_lib
from tlx.train import optim, resuming, telemetry
from tlx.train import watch as watch_lib
from tlx.train.loop import train
from tlx.train.spec import RunSpec
from tlx.train.step import StepInputs

CONFIG = "configs/mini.py:scratch"
EVERY = 100
"""Steps from one checkpoint to the next."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default=CONFIG, help=f"of a run ({CONFIG})")
    parser.add_argument("--kills", type=int, default=5, help="how often it is killed (5)")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES))
    args = parser.parse_args()
    if "watching_over_step" in args.only:
        emit(watching_over_step(args.config))
    if "checkpoint_share_of_step" in args.only:
        emit(checkpoint_share_of_step(args.config))
    if "goodput_under_kills" in args.only:
        emit(goodput_under_kills(args.config, args.kills))


def emit(line: dict[str, Any]) -> None:
    """Prints it."""
    print(json.dumps(line), flush=True)


def watching_over_step(name: str = CONFIG, *, steps: int = 100, turns: int = 20) -> dict[str, Any]:
    """What watched steps take, over the same steps unwatched."""
    spec = config.build(RunSpec, config.load(name))
    mesh = sharding.make_mesh()
    hyper = sharding.replicate(optim.hyper_of(spec.optim), mesh)
    numbers = StepInputs(np.float32(1e-3), hyper)
    with tempfile.TemporaryDirectory() as folder:
        job = job_lib.make_job(spec, Path(folder), mesh, resuming.origin_of(spec))
        watch = watch_lib.Watch(job, None, None, watch_lib.Start())
        batches, state = job.batches(0), [job_lib.new_state(job)]

        def bare() -> Any:
            for _ in range(steps):
                batch = next(batches)
                state[0], metrics = job.step_fn(state[0], batch, numbers)
            return metrics

        def watched() -> Any:
            for step in range(steps):
                batch = watch.batch(batches)
                state[0], metrics = job.step_fn(state[0], batch, numbers)
                watch.stepped(step, metrics, state[0], batch, numbers)
            return metrics

        def idle() -> None:
            for step in range(100 * steps):
                watch.batch(nothing)
                watch.stepped(step, done)
            with watch.during("nothing"):  # which waits for what the other thread does
                pass

        with watch:
            done, nothing = jax.block_until_ready((bare(), watched()))[0], itertools.repeat(None)
            pairs = [
                {call: _processor_seconds(call) for call in order}
                for order in [(bare, watched), (watched, bare)] * (turns // 2)
            ]
            empty = _processor_seconds(idle) / (100 * steps)
    return {
        "name": "watching_over_step",
        "value": round(statistics.median(pair[watched] / pair[bare] for pair in pairs), 4),
        "aim": 1.01,
        "seconds_per_step": round(statistics.median(pair[bare] for pair in pairs) / steps, 5),
        "microseconds_of_watching": round(1e6 * empty, 1),
        **_where(spec),
    }


def _processor_seconds(call: Callable[[], Any]) -> float:
    """Of all threads of this process: other work on the machine does not count."""
    start = time.process_time()
    jax.block_until_ready(call())
    return time.process_time() - start


def checkpoint_share_of_step(
    name: str = CONFIG, *, saves: int = 20, turns: int = 4
) -> dict[str, Any]:
    """The share of training that saving takes, in the steps after the first two checkpoints."""
    words = _overrides(EVERY * (saves + 2))
    specs = [
        config.build(RunSpec, config.load(name, [*words, f"checkpoint.resume_every={every}"]))
        for every in (EVERY, 0)
    ]
    saved, over_unsaved, ends = list[telemetry.Line](), [], []
    for turn in range(turns):
        order = (0, 1) if turn % 2 else (1, 0)
        found = {number: _lines(specs[number]) for number in order}
        saved += [line for line in found[0][:-1] if line["from_step"] >= 2 * EVERY]
        ends.append(found[0][-1]["checkpoint_seconds"])
        over_unsaved.append(_seconds(found[0][:-1]) / _seconds(found[1][:-1]))
    steps = sum(line["steps"] for line in saved)
    stopped = sum(line["checkpoint_seconds"] for line in saved)
    return {
        "name": "checkpoint_share_of_step",
        "value": round(stopped / _seconds(saved), 4),
        "aim": 0.02,
        "every": EVERY,
        "seconds_per_step": round(sum(line["step_seconds"] for line in saved) / steps, 5),
        "seconds_per_save": round(stopped * EVERY / steps, 5),
        "seconds_at_the_end": round(statistics.median(ends), 4),
        "time_over_unsaved": sorted(round(ratio, 3) for ratio in over_unsaved),
        **_where(specs[0]),
    }


def _lines(spec: RunSpec) -> list[telemetry.Line]:
    """Of the telemetry of a run, but for its start; the last one is that of the end."""
    with tempfile.TemporaryDirectory() as folder:
        train(spec, folder)
        return telemetry.read(folder)[1:]


def _seconds(lines: list[telemetry.Line]) -> float:
    """In training, and in which it stood still to save."""
    return sum(line["training_seconds"] + line["checkpoint_seconds"] for line in lines)


def goodput_under_kills(
    name: str = CONFIG, kills: int = 5, *, seconds: float = 60.0
) -> dict[str, Any]:
    """The share of its time that a run loses which is killed again and again."""
    words = _overrides(10**7)
    spec = config.build(RunSpec, config.load(name, words))
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder) / "run"
        command = [sys.executable, "-m", "tlx.cli", "train", f"--config={name}"]
        command += [f"--workdir={workdir}", *(f"--config.{word}" for word in words)]
        environment = {**os.environ, "XDG_CACHE_HOME": folder}  # nothing is compiled before
        for _ in range(kills):
            started = subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            time.sleep(seconds)
            if started.poll() is not None:
                raise RuntimeError(f"expected a run that goes on, got status {started.returncode}")
            os.kill(started.pid, signal.SIGKILL)
            started.wait()
        found = telemetry.spent(telemetry.read(workdir))
    parts = {
        part: round(value / found.wall, 4)
        for part, value in found._asdict().items()
        if part not in ("wall", "steps", "starts")
    }
    return {
        "name": "goodput_under_kills",
        "value": round(1 - found.goodput, 4),
        "aim": 0.1,
        "kills": kills,
        "seconds_between": seconds,
        "wall_seconds": round(found.wall, 1),
        **parts,
        **_where(spec),
    }


def _overrides(num_steps: int) -> list[str]:
    """Of a config, for a run that saves and does not evaluate."""
    return [
        f"num_steps={num_steps}",
        f"eval_every={num_steps}",
        "log_every=0",
        "checkpoint.rule=none",
        "checkpoint.keep_best=False",
        f"checkpoint.resume_every={EVERY}",
    ]


def _where(spec: RunSpec) -> dict[str, Any]:
    return {
        "model": spec.model.name,
        "batch_size": spec.data.batch_size,
        "device": jax.devices()[0].device_kind,
        "cores": resources.cores(),
    }


NAMES: dict[str, Callable[..., dict[str, Any]]] = {
    "watching_over_step": watching_over_step,
    "checkpoint_share_of_step": checkpoint_share_of_step,
    "goodput_under_kills": goodput_under_kills,
}


if __name__ == "__main__":
    main()
