"""When steps are done on the device, seen by a thread that waits for each of them."""

import contextlib
import math
import queue
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

PATIENCE = 10.0
"""Seconds that the thread is waited for at the end, if a step is never done."""


class Steps(NamedTuple):
    """Steps that were done, one after another.

    Attributes:
      last: the number of the last one.
      seconds: of each, see `StepTimes`.
      waited: seconds in which the device had nothing to do, since the next batch was not there.
    """

    last: int
    seconds: list[float]
    waited: float


class Dispatched(NamedTuple):
    """A step on its way to the device.

    Attributes:
      step: its number, from 1.
      asked: when its batch was asked for.
      given: when that was there.
      compiled: when the step was compiled, too; `given` if it was before.
    """

    step: int
    asked: float
    given: float
    compiled: float


class StepTimes:
    """Seconds of steps on the device, without making the loop wait for them.

    Steps are dispatched ahead of the device, so times between calls of a step say nothing. Here a
    thread blocks on the results of each, in order, and notes when they are there. A step has taken
    `done - max(done before, compiled)`: from when the step before it was done, or it could begin if
    that was later. The device has waited for data `given - max(done before, asked)` if that is
    positive: from when it had nothing to do, or the batch was asked for if that was later. "Done"
    is late by as long as the thread takes to wake: some tens of microseconds, more where Python
    works on without a pause (5 ms at the most, then it is interrupted).

    Args:
      step: the number of steps done before.
      now: the time in seconds.
    """

    def __init__(self, step: int, now: Callable[[], float]) -> None:
        self._now = now
        self._queue = queue.SimpleQueue[tuple[Dispatched, Any] | threading.Event | None]()
        self._lock = threading.Lock()
        self._free = -math.inf
        self._done = Steps(step, [], 0.0)
        self._thread = threading.Thread(target=self._watch, daemon=True, name="tlx step times")
        self._thread.start()

    @property
    def last(self) -> int:
        """The number of the last step that is done."""
        return self._done.last

    def add(self, step: Dispatched, result: Any) -> None:
        """Waits elsewhere for a step that was dispatched.

        Args:
          step: what is known of it.
          result: pytree of arrays that it computes, and nobody donates.
        """
        self._queue.put((step, result))

    def drain(self) -> None:
        """Waits until all steps that were dispatched are done, and seen."""
        seen = threading.Event()
        self._queue.put(seen)
        seen.wait()

    def take(self) -> Steps:
        """The steps done since the last call."""
        with self._lock:
            found, self._done = self._done, Steps(self._done.last, [], 0.0)
        return found

    def close(self) -> None:
        """Ends the thread, when the steps that were dispatched are done."""
        self._queue.put(None)
        self._thread.join(PATIENCE)

    def _watch(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, threading.Event):
                item.set()
                continue
            step, result = item
            with contextlib.suppress(Exception):  # of the step, which the loop raises
                jax.block_until_ready(result)
                self._saw(step, self._now())

    def _saw(self, step: Dispatched, done: float) -> None:
        with self._lock:
            _, seconds, waited = self._done
            waited += max(0.0, step.given - max(self._free, step.asked))
            seconds.append(max(0.0, done - max(self._free, step.compiled)))
            self._done, self._free = Steps(step.step, seconds, waited), done
