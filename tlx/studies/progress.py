"""Where a study is: what is being done, how far it is, and the time left."""

import io
import shutil
import sys
import time
from collections.abc import Callable
from typing import NamedTuple, TextIO

import jax

QUIET_SECONDS = 10.0
"""Where the output is no terminal, an unfinished task is mentioned this often."""

KNOWN_SHARE = 0.01
"""The share of all work from which its speed is known well enough to say the time left."""


class Progress:
    """Tells progress through tasks of known weight on a text stream.

    Several tasks can be under way at once. On a terminal one line is rewritten; elsewhere a line a
    finished task, and one in between every few seconds. The time left is the weight left at the
    speed of the work done here, from the first part on: neither compilation before it nor what was
    found done counts.

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
        self._open: dict[str, _Task] = {}
        self._shown = now()
        self._mark: tuple[float, float] | None = None

    def start(self, name: str, weight: float) -> None:
        """Begins a task."""
        now = self._now()
        if not self._open:
            self._shown = now
        self._open[name] = _Task(weight, now)
        if self._out.isatty():
            self._show()

    def part(self, name: str, fraction: float, detail: str = "") -> None:
        """A task is done to this fraction, 0 to 1."""
        self._open[name] = self._open[name]._replace(part=fraction, detail=detail)
        if fraction > 0 and self._mark is None:
            self._mark = self._so_far()
        if self._out.isatty() or self._now() - self._shown >= QUIET_SECONDS:
            self._show()

    def finish(self, name: str, detail: str = "", *, worked: bool = True) -> None:
        """Ends a task; `worked` is False where it was found done."""
        task = self._open.pop(name)
        self._done += task.weight
        self._worked += task.weight if worked else 0
        took = f"{self._now() - task.began:6.1f} s" if worked else "    done"
        end = f"  {detail}" if detail else ""
        left = f"  ({self._left()})" if self._done < self._total else ""
        self._write(f"{self._percent()} {took}  {name}{end}{left}", "\n")

    def say(self, text: str) -> None:
        """Writes a line of its own."""
        self._write(text, "\n")

    def _show(self) -> None:
        self._shown = self._now()
        each = (f"{name}  {task.detail}".rstrip() for name, task in self._open.items())
        text, left = f"{self._percent()} {'; '.join(each)}", f"  ({self._left()})"
        if self._out.isatty():
            columns = shutil.get_terminal_size().columns - 1
            self._write((text[: max(0, columns - len(left))] + left)[:columns], "")
        else:
            self._write(text + left, "\n")

    def _under_way(self) -> float:
        """The weight done of tasks that are not."""
        return sum(task.part * task.weight for task in self._open.values())

    def _percent(self) -> str:
        return f"[{100 * (self._done + self._under_way()) / self._total:3.0f}%]"

    def _so_far(self) -> tuple[float, float]:
        """The weight done here, and the time."""
        return self._worked + self._under_way(), self._now()

    def _left(self) -> str:
        worked, now = self._so_far()
        first, began = self._mark or (worked, now)
        if worked - first < KNOWN_SHARE * self._total:
            return "time left: not known yet"
        rest = self._total - self._done - self._under_way()
        return f"about {clock(rest * (now - began) / (worked - first))} left"

    def _write(self, text: str, end: str) -> None:
        start = "\r\x1b[K" if self._out.isatty() else ""
        self._out.write(f"{start}{text}{end}")
        self._out.flush()


class _Task(NamedTuple):
    """A task under way."""

    weight: float
    began: float
    part: float = 0.0
    detail: str = ""


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
