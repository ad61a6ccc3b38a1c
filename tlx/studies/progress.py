"""Where a study is: what is being done, how far it is, and the time left."""

import io
import sys
import time
from collections.abc import Callable
from typing import TextIO

import jax

QUIET_SECONDS = 10.0
"""Where the output is no terminal, an unfinished task is mentioned this often."""

KNOWN_SHARE = 0.01
"""The share of all work from which its speed is known well enough to say the time left."""


class Progress:
    """Tells progress through tasks of known weight on a text stream.

    On a terminal one line is rewritten; elsewhere a line a finished task, and one in between
    every few seconds. The time left is the weight left at the speed of the work done here,
    from the first part on: neither compilation before it nor what was found done counts.

    Args:
      total: the sum of the weights of all tasks.
      out: where to write; by default standard error, in the first process alone.
      now: the time in seconds.
    """

    def __init__(
        self, total: float, out: TextIO | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._out = out or (sys.stderr if jax.process_index() == 0 else io.StringIO())
        self._now = now
        self._total, self._done, self._worked = total, 0.0, 0.0
        self._began = self._told = now()
        self._seconds = 0.0
        self._mark: tuple[float, float] | None = None

    def start(self, name: str, weight: float) -> None:
        """Begins a task."""
        self._name, self._weight, self._part = name, weight, 0.0
        self._began = now = self._now()
        self._told = now
        if self._out.isatty():
            self._show()

    def part(self, fraction: float, detail: str = "") -> None:
        """The present task is done to this fraction, 0 to 1."""
        self._part = fraction
        if fraction > 0 and self._mark is None:
            self._mark = self._so_far()
        terminal = self._out.isatty()
        if terminal or self._now() - self._told >= QUIET_SECONDS:
            self._show(detail)

    def finish(self, detail: str = "", *, worked: bool = True) -> None:
        """Ends the present task; `worked` is False where it was found done."""
        self._done += self._weight
        took = self._now() - self._began
        if worked:
            self._worked += self._weight
            self._seconds += took
        self._part, self._weight = 0.0, 0.0
        end = f"  {detail}" if detail else ""
        time_taken = f"{took:6.1f} s" if worked else "    done"
        left = f"  ({self._left()})" if self._done < self._total else ""
        self._write(f"{self._percent()} {time_taken}  {self._name}{end}{left}", "\n")

    def _show(self, detail: str = "") -> None:
        self._told = self._now()
        text = f"{self._percent()} {self._name}  {detail}  ({self._left()})"
        self._write(text, "" if self._out.isatty() else "\n")

    def _percent(self) -> str:
        return f"[{100 * (self._done + self._part * self._weight) / self._total:3.0f}%]"

    def _so_far(self) -> tuple[float, float]:
        """Weight done here, and the seconds that it took."""
        part = self._part * self._weight
        now = self._now() - self._began if self._weight else 0.0
        return self._worked + part, self._seconds + now

    def _left(self) -> str:
        worked, seconds = self._so_far()
        first, began = self._mark or (worked, seconds)
        if worked - first < KNOWN_SHARE * self._total:
            return "time left: not known yet"
        rest = self._total - self._done - self._part * self._weight
        return f"about {clock(rest * (seconds - began) / (worked - first))} left"

    def _write(self, text: str, end: str) -> None:
        start = "\r\x1b[K" if self._out.isatty() else ""
        self._out.write(f"{start}{text}{end}")
        self._out.flush()


def clock(seconds: float) -> str:
    """Seconds as people say them.

    >>> clock(42), clock(200), clock(7300)
    ('42 s', '3 min 20 s', '2 h 01 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
