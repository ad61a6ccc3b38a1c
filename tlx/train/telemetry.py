"""telemetry.jsonl: where the time of a run went, one JSON object a line, appended.

Beside metrics.jsonl, which holds no times and is the same for any number of starts, this file has
what differs from start to start. Each start of a run adds a line "start", then a line "interval" at
each evaluation and checkpoint and every ten seconds, and "end", or "stop" where it was stopped by a
signal or an error; after a kill there is none. A line has

- `event`, `step` (done so far), `from_step` (where the line before it ended), `time` (of day, in
  seconds since 1970) and `seconds` (since this start, by a clock that does not jump);
- seconds of its interval, `interval_seconds`, and of these `step_seconds`, `data_seconds`,
  `evaluation_seconds`, `checkpoint_seconds`, `compile_seconds` and `start_seconds`, of which none
  counts what is in another;
- what follows from them: `images_per_second`, `seconds_per_step` with its `_deviation`, `_p50` and
  `_p99`, `data_share`, `utilisation`; and `memory_bytes`.

What each of them means is in `tlx.train.watch`.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

FILE = "telemetry.jsonl"

Line: TypeAlias = dict[str, Any]

KINDS = ("data", "evaluation", "checkpoint", "compile", "start")
"""What time goes to besides steps; a line has the seconds of each."""

_PLACE = ("step", "from_step", "time", "seconds")
_TIMED = ("steps", "images", "training_seconds", "step_seconds", "data_seconds")
_NUMBERS = (*_PLACE, *_TIMED, *(f"{kind}_seconds" for kind in KINDS))


def read(workdir: str | Path) -> list[Line]:
    """The lines of a run that are whole; none without the file.

    One that was cut off by a kill is left out, wherever it is: the next start goes on below it.
    """
    path = Path(workdir) / FILE
    if not path.exists():
        return []
    found = []
    for text in path.read_text(errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if _is_line(line):
            found.append(line)
    return found


def _is_line(line: Any) -> bool:
    """Whether it says what it is of and when, and what is added up are numbers."""
    return (
        isinstance(line, dict)
        and {"event", *_PLACE} <= line.keys()
        and all(type(line[name]) in (int, float) for name in _NUMBERS if name in line)
    )


def append(workdir: str | Path, line: Mapping[str, Any]) -> None:
    """Adds a line, on one of its own though the last one be cut off.

    Raises:
      OSError: the disk is full, say.
    """
    text = json.dumps(line, allow_nan=False) + "\n"
    with (Path(workdir) / FILE).open("ab+") as file:
        if file.tell():
            file.seek(-1, 2)
            text = text if file.read(1) == b"\n" else "\n" + text
        file.write(text.encode())


def measured(
    seconds: Sequence[float],
    training: float,
    *,
    waited: float,
    batch_size: int,
    flops: float | None,
    peak: float | None,
) -> dict[str, Any]:
    """What follows from the times of an interval's steps, by name; {} where there are none.

    Args:
      seconds: of each step.
      training: seconds of the interval in training.
      waited: seconds of them in which the device waited for data.
      batch_size: images a step.
      flops: floating-point operations a step; None: not known.
      peak: of all devices, a second; None: not known.
    """
    if not seconds or training <= 0:
        return {}
    steps = len(seconds)
    p50, p99 = np.percentile(seconds, (50, 99))
    return {
        "images_per_second": steps * batch_size / training,
        "seconds_per_step": math.fsum(seconds) / steps,
        "seconds_per_step_deviation": float(np.std(seconds)),
        "seconds_per_step_p50": float(p50),
        "seconds_per_step_p99": float(p99),
        "data_share": waited / training,
        "utilisation": None if flops is None or peak is None else steps / training * flops / peak,
    }


class Spent(NamedTuple):
    """Where the time of a run went, all its starts together; seconds, which add up to `wall`.

    Attributes:
      wall: since the first start, to the last line: the time between starts included.
      steps: in steps that were kept.
      repeated: in steps that a later start did again, since they were not saved.
      data: waiting for data.
      evaluation: in evaluations.
      checkpoint: in which training stood still to save.
      compile: tracing and compiling, or reading what was compiled.
      start: from a start to its first batch, without what is in the above.
      stopped: from the last line of a start to the next start: steps of which nothing is known, a
        kill, and waiting.
      other: the rest: what the host does between steps while no step runs.
      starts: how often it was started.
    """

    wall: float = 0.0
    steps: float = 0.0
    repeated: float = 0.0
    data: float = 0.0
    evaluation: float = 0.0
    checkpoint: float = 0.0
    compile: float = 0.0
    start: float = 0.0
    stopped: float = 0.0
    other: float = 0.0
    starts: int = 0

    @property
    def goodput(self) -> float:
        """The share of `steps` in `wall`; NaN before any time has passed."""
        return self.steps / self.wall if self.wall > 0 else math.nan


def spent(lines: Iterable[Line]) -> Spent:
    """Where the time of a run went, from its lines.

    Within a start times are differences of a clock that does not jump. Between starts there is the
    time of day alone: where it was set back meanwhile the gap is negative, and counts as none;
    where it was set forward the gap counts, as nothing tells it from waiting. A start goes on from
    a checkpoint, and a line ends at each: so lines after its step were repeated. If one spans the
    step nevertheless, its time is divided by the number of steps.

    Args:
      lines: in the order of the file.

    >>> start = {"event": "start", "step": 0, "from_step": 0, "time": 100.0, "seconds": 0.0}
    >>> line = {"event": "interval", "step": 50, "from_step": 0, "time": 108.0, "seconds": 8.0}
    >>> found = spent([start, {**line, "step_seconds": 6.0}])
    >>> found.wall, found.steps, found.goodput
    (8.0, 6.0, 0.75)
    """
    sums = dict.fromkeys((*KINDS, "stopped", "wall", "all"), 0.0)
    starts, kept = 0, list[tuple[int, int, float]]()
    before: Line | None = None
    for line in lines:
        if line["event"] == "start":
            starts += 1
            gap = 0.0 if before is None else max(0.0, line["time"] - before["time"])
            sums["stopped"] += gap
            sums["wall"] += gap + line["seconds"]
        else:
            since = 0.0 if before is None else before["seconds"]
            sums["wall"] += max(0.0, line["seconds"] - since)
        for kind in KINDS:
            sums[kind] += line.get(f"{kind}_seconds", 0.0)
        first: int = line["from_step"]
        kept = [_until(part, first) for part in kept if part[0] < first]
        seconds = line.get("step_seconds", 0.0)
        kept.append((first, line["step"], seconds))
        sums["all"] += seconds
        before = line
    steps = math.fsum(part[2] for part in kept)
    known = {kind: sums[kind] for kind in (*KINDS, "stopped")}
    return Spent(
        wall=sums["wall"],
        steps=steps,
        repeated=sums["all"] - steps,
        other=sums["wall"] - sums["all"] - math.fsum(known.values()),
        starts=starts,
        **known,
    )


def _until(part: tuple[int, int, float], step: int) -> tuple[int, int, float]:
    """What is left of an interval's steps and their seconds, up to a step after its first."""
    first, last, seconds = part
    if last <= step:
        return part
    return first, step, seconds * (step - first) / (last - first)


def goodput(lines: Iterable[Line]) -> float:
    """The time in steps that were kept over all time since the first start; see `spent`.

    Kills, what they made to be done again, and the time until the next start are in the latter. NaN
    before any time has passed.
    """
    return spent(lines).goodput


def summary(lines: Iterable[Line]) -> str:
    """What there is to say of a run's time, in two lines; "" where no time of a step is known."""
    lines = list(lines)
    timed = [line for line in lines if line.keys() >= set(_TIMED) and line["steps"]]
    steps, images, training, stepping, waited = (
        math.fsum(line[name] for line in timed) for name in _TIMED
    )
    found = spent(lines)
    if min(steps, training, found.wall) <= 0:
        return ""
    parts = {
        "repeated after a stop": found.repeated,
        "waiting for data": found.data,
        "evaluation": found.evaluation,
        "saving": found.checkpoint,
        "compiling": found.compile,
        "starting": found.start,
        "stopped": found.stopped,
        "other": found.other,
    }
    shares = {name: seconds / found.wall for name, seconds in parts.items()}
    largest = sorted(shares, key=lambda name: -shares[name])[:4]
    rest = ", ".join(f"{name} {shares[name]:.0%}" for name in largest if shares[name] >= 0.005)
    starts = f", {found.starts} starts" if found.starts > 1 else ""
    return (
        f"{images / training:,.0f} images/s, {1000 * stepping / steps:.3g} ms a step, "
        f"{waited / training:.1%} of training waiting for data, {found.compile:.1f} s compiling\n"
        f"goodput {found.goodput:.0%}: {found.steps:.1f} s in steps of {found.wall:.1f} s since "
        f"the first start{starts}{rest and f'; {rest}'}"
    )
