"""Where the time of a run went, from lines written by hand."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlx.train import telemetry

NOTHING = {"steps": 0, "images": 0, "training_seconds": 0.0}


def start(step: int, time: float, seconds: float = 0.0) -> telemetry.Line:
    return {"event": "start", "step": step, "from_step": step, "time": time, "seconds": seconds}


def line(steps: tuple[int, int], time: float, seconds: float, **spent: float) -> telemetry.Line:
    """Of the steps from one to another; `spent` by kind, "step" and those of telemetry.KINDS."""
    named = {f"{kind}_seconds": spent.get(kind, 0.0) for kind in ("step", *telemetry.KINDS)}
    first, last = steps
    place = {"step": last, "from_step": first, "time": time, "seconds": seconds}
    return {"event": "interval", **place, **named}


# 10 s to the first line, of which 4 are steps; a kill, 20 s of silence; steps 50 to 60 again
KILLED = [
    start(0, 1000.0),
    line((0, 50), 1010.0, 10.0, step=4.0, compile=3.0, start=1.0, data=0.5),
    line((50, 60), 1012.0, 12.0, step=2.0),
    start(50, 1032.0),
    line((50, 60), 1037.0, 5.0, step=1.5, compile=2.0, evaluation=0.5, checkpoint=0.25),
    {**line((60, 60), 1038.0, 6.0), "event": "end"},
]


def test_the_time_of_a_run_that_was_killed_adds_up():
    found = telemetry.spent(KILLED)
    assert found == pytest.approx(
        telemetry.Spent(
            wall=12 + 20 + 6,
            steps=4 + 1.5,
            repeated=2.0,
            data=0.5,
            evaluation=0.5,
            checkpoint=0.25,
            compile=5.0,
            start=1.0,
            stopped=20.0,
            other=38 - 4 - 1.5 - 2 - 0.5 - 0.5 - 0.25 - 5 - 1 - 20,
            starts=2,
        )
    )
    assert telemetry.goodput(KILLED) == pytest.approx(5.5 / 38)
    assert sum(found) - found.wall - found.starts == pytest.approx(found.wall)


def test_several_kills_before_a_checkpoint_repeat_the_same_steps():
    once = [start(0, 0.0), line((0, 10), 5.0, 5.0, step=5.0)]
    again = [{**each, "time": each["time"] + 6.0} for each in once]
    found = telemetry.spent([*once, *again])
    assert (found.steps, found.repeated, found.stopped, found.wall) == (5.0, 5.0, 1.0, 11.0)


def test_steps_of_an_interval_that_a_start_lies_in_are_kept_in_part():
    found = telemetry.spent([start(0, 0.0), line((0, 10), 5.0, 5.0, step=4.0), start(5, 5.0)])
    assert (found.steps, found.repeated) == (2.0, 2.0)


@pytest.mark.parametrize(("jump", "stopped"), [(-500.0, 0.0), (-20.0, 0.0), (300.0, 320.0)])
def test_a_clock_that_jumps_between_starts(jump: float, stopped: float):
    lines = [*KILLED[:3], *({**each, "time": each["time"] + jump} for each in KILLED[3:])]
    found = telemetry.spent(lines)
    assert found.stopped == stopped
    assert found.wall == 18 + stopped
    assert found.steps == 5.5


def test_a_clock_that_jumps_within_a_start_changes_nothing():
    lines = [KILLED[0], {**KILLED[1], "time": -9e9}, *KILLED[2:]]
    assert telemetry.spent(lines) == telemetry.spent(KILLED)


def test_without_time_there_is_no_goodput():
    assert math.isnan(telemetry.goodput([]))
    assert math.isnan(telemetry.goodput([start(0, 7.0)]))


def test_lines_that_a_kill_cut_off_are_left_out(tmp_path: Path):
    assert telemetry.read(tmp_path) == []
    for each in KILLED[:3]:
        telemetry.append(tmp_path, each)
    path = tmp_path / telemetry.FILE
    whole = path.read_bytes()
    for length in range(0, len(whole) + 1, 11):
        path.write_bytes(whole[:length])
        kept = telemetry.read(tmp_path)
        assert kept == KILLED[: len(kept)]
        assert len(kept) >= whole[:length].count(b"\n")
    path.write_bytes(whole[:-30])
    for each in KILLED[3:]:
        telemetry.append(tmp_path, each)
    assert telemetry.read(tmp_path) == [*KILLED[:2], *KILLED[3:]]
    assert telemetry.spent(telemetry.read(tmp_path)).steps == 5.5


def test_other_things_in_the_file_are_no_lines(tmp_path: Path):
    texts = ["[]", "3", '{"event": "interval"}', "\ufffd", json.dumps(KILLED[0])]
    (tmp_path / telemetry.FILE).write_text("\n".join(texts))
    assert telemetry.read(tmp_path) == [KILLED[0]]


@pytest.mark.parametrize("name", ["event", "step", "time", "step_seconds", "images"])
def test_what_is_added_up_is_a_number(name: str, tmp_path: Path):
    whole = {**NOTHING, **KILLED[1]}
    wrong = {key: value for key, value in whole.items() if key != name}
    if name != "event":
        wrong[name] = "3"
    (tmp_path / telemetry.FILE).write_text(f"{json.dumps(wrong)}\n{json.dumps(whole)}\n")
    assert telemetry.read(tmp_path) == [whole]


def test_what_follows_from_the_times_of_steps():
    seconds = [0.1, 0.2, 0.4, 0.1]
    options: dict[str, Any] = {"waited": 0.25, "batch_size": 8, "flops": 5e6}
    found = telemetry.measured(seconds, 2.0, peak=1e8, **options)
    wanted = {
        "images_per_second": 16.0,
        "seconds_per_step": 0.2,
        "seconds_per_step_deviation": math.sqrt((0.01 + 0.0 + 0.04 + 0.01) / 4),
        "seconds_per_step_p50": 0.15,
        "seconds_per_step_p99": float(np.percentile(seconds, 99)),
        "data_share": 0.125,
        "utilisation": 2 * 5e6 / 1e8,
    }
    assert found == pytest.approx(wanted)
    assert telemetry.measured(seconds, 2.0, peak=None, **options)["utilisation"] is None
    assert telemetry.measured([], 2.0, peak=None, **options) == {}


def test_the_summary_is_two_lines():
    assert telemetry.summary(KILLED[:1]) == ""
    lines = [{**NOTHING, **each} for each in KILLED]
    lines[1] |= {"steps": 50, "images": 400, "training_seconds": 5.0}
    lines[4] |= {"steps": 10, "images": 80, "training_seconds": 3.0}
    assert telemetry.summary(lines).splitlines() == [
        "60 images/s, 91.7 ms a step, 6.2% of training waiting for data, 5.0 s compiling",
        "goodput 14%: 5.5 s in steps of 38.0 s since the first start, 2 starts; stopped 53%, "
        "compiling 13%, other 9%, repeated after a stop 5%",
    ]
    for name in ("images", "steps", "training_seconds"):  # a line that lacks one is of no step
        less = [*lines, {key: value for key, value in lines[4].items() if key != name}]
        assert telemetry.summary(less).startswith("60 images/s, 91.7 ms a step, 6.2% of training ")


def test_there_is_no_summary_before_any_time_has_passed():
    of_a_step = {"steps": 1, "images": 8, "training_seconds": 0.5}
    assert telemetry.summary([start(0, 9.0), {**line((0, 1), 9.0, 0.0), **of_a_step}]) == ""
    of_a_step["training_seconds"] = 0.0
    assert telemetry.summary([start(0, 9.0), {**line((0, 1), 9.0, 3.0), **of_a_step}]) == ""


def test_the_code_of_the_guide_reads_a_file_that_a_kill_cut_off(tmp_path: Path, monkeypatch):
    pytest.importorskip("pandas")
    guide = (Path(__file__).parents[2] / "docs/guides/time.md").read_text()
    code = guide.partition("```python\n")[2].partition("lines[lines.event")[0]
    monkeypatch.chdir(tmp_path)
    folder = Path("runs/scratch")
    folder.mkdir(parents=True)
    whole = "".join(json.dumps(each) + "\n" for each in KILLED)
    (folder / telemetry.FILE).write_text(whole[:-30])
    names: dict[str, Any] = {}
    exec(code, names)
    assert list(names["lines"].event) == [each["event"] for each in KILLED[:-1]]
