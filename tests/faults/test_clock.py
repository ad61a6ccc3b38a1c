"""A clock that jumps by hours, back and forth: nothing in a run goes by it."""

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints.test_owner import elsewhere
from tests.train.test_loop import assert_same_files, run
from tests.train.tiny import make_spec
from tlx.checkpoints import owner

HOURS = 5 * 3600


@pytest.fixture
def jumping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock shows another time of the day, and files have such times."""
    rng, now, utime = random.Random(0), time.time, os.utime

    def at() -> float:
        return now() + rng.uniform(-HOURS, HOURS)

    def touch(path: Path, times: tuple[float, float] | None = None, **options: Any) -> None:
        utime(path, times or (at(), at()), **options)

    monkeypatch.setattr(time, "time", at)
    monkeypatch.setattr(time, "time_ns", lambda: int(1e9 * at()))
    monkeypatch.setattr(os, "utime", touch)
    monkeypatch.setattr(owner, "BEAT", 0.05)


def test_a_run_under_a_jumping_clock(
    jumping: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, float]] = []
    spec = make_spec(checkpoint={"resume_every": 2})
    begun = time.perf_counter()
    result = run(spec, tmp_path / "run", progress=lambda step, num, numbers: seen.append(numbers))
    assert 0 < result.seconds < time.perf_counter() - begun
    assert all(0 <= numbers.get("seconds_left", 0) < 3600 for numbers in seen)
    monkeypatch.undo()
    run(spec, tmp_path / "whole")
    assert_same_files(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("hours", [-HOURS, HOURS])
def test_an_owner_elsewhere_whose_clock_is_off(hours: int, tmp_path: Path) -> None:
    """Its file is watched for changes; what time it says does not matter."""
    path, now = elsewhere(tmp_path), time.time()
    os.utime(path, (now + hours, now + hours))
    with owner.hold(tmp_path, patience=0.3) as held:
        held.require()
