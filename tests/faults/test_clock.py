"""A clock that jumps by hours, back and forth: nothing in a run goes by it."""

import os
import random
import time
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
import pytest

from tests.checkpoints.test_owner import elsewhere
from tests.train.test_loop import assert_same_files, run
from tests.train.tiny import make_spec
from tlx.checkpoints import owner

HOURS = 5 * 3600


class Clock:
    """The time of the day, which jumps when it is told to; files have such times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._rng, self._now, self._utime, self._off = random.Random(0), time.time, os.utime, 0.0
        monkeypatch.setattr(time, "time", self.now)
        monkeypatch.setattr(time, "time_ns", lambda: int(1e9 * self.now()))
        monkeypatch.setattr(os, "utime", self.touch)

    def now(self) -> float:
        return self._now() + self._off

    def touch(self, path: Path, times: tuple[float, float] | None = None, **options: Any) -> None:
        self._utime(path, times or (self.now(), self.now()), **options)

    def jump(self) -> None:
        self._off = self._rng.uniform(-HOURS, HOURS)


def test_a_run_under_a_jumping_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, float]] = []
    spec, begun = make_spec(checkpoint={"resume_every": 2}), time.perf_counter()

    def progress(step: int, num_steps: int, numbers: dict[str, float]) -> None:
        seen.append(numbers)
        clock.jump()

    with monkeypatch.context() as patched:
        patched.setattr(owner, "BEAT", 0.05)
        clock = Clock(patched)
        result = run(spec, tmp_path / "run", progress=progress)
    assert 0 <= result.seconds < time.perf_counter() - begun
    assert all(0 <= numbers.get("seconds_left", 0) < 3600 for numbers in seen)
    run(spec, tmp_path / "whole")
    assert_same_files(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("hours", [-HOURS, HOURS])
def test_an_owner_elsewhere_whose_clock_is_off(hours: int, tmp_path: Path) -> None:
    """Its file is watched for changes; what time it says does not matter."""
    path, now = elsewhere(tmp_path), time.time()
    os.utime(path, (now + hours, now + hours))
    with owner.hold(tmp_path, patience=0.3) as held:
        held.require()


def test_a_save_that_is_given_up_by_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By that of orbax, where several processes save."""

    def late(*_: Any, **__: Any) -> None:
        raise TimeoutError("Timed out after 9084.9 seconds.")

    with monkeypatch.context() as patched:
        patched.setattr(ocp.CheckpointManager, "save", late)
        with pytest.raises(TimeoutError, match=r"9084.*this machine's clock has jumped: give the"):
            run(make_spec(), tmp_path)
    run(make_spec(), tmp_path)
