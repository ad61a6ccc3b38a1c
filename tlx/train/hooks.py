"""Progress of a run while it trains, with the time left."""

import time
from collections.abc import Callable, Mapping
from typing import TypeAlias

Progress: TypeAlias = Callable[[int, int, Mapping[str, float]], None]
"""`(step, num_steps, numbers) -> None`, called after evaluations and logged batches, and
each second.

`numbers` holds the newest known of "loss", "accuracy" (of a batch), "train_loss",
"train_accuracy", "test_loss", "test_accuracy", and once a step was timed
"seconds_per_step", "seconds_left" and "images_per_second".
"""


def no_progress(step: int, num_steps: int, numbers: Mapping[str, float]) -> None:
    """Reports nothing."""


class Clock:
    """Seconds of steps and evaluations, not counting those before `start`.

    Args:
      now: the time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._began: float | None = None
        self._first = 0

    def start(self, step: int) -> None:
        """Starts after a step, once the first step is compiled; later calls do nothing."""
        if self._began is None:
            self._began, self._first = self._now(), step

    @property
    def is_started(self) -> bool:
        """Whether it was started."""
        return self._began is not None

    @property
    def seconds(self) -> float:
        """Seconds since the start; 0 before it."""
        return 0.0 if self._began is None else self._now() - self._began

    def estimate(self, step: int, num_steps: int) -> dict[str, float]:
        """Seconds per step (evaluations included) and seconds left; {} before both are known."""
        done = step - self._first
        if self._began is None or done <= 0:
            return {}
        each = self.seconds / done
        return {"seconds_per_step": each, "seconds_left": each * (num_steps - step)}
