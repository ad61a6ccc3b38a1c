"""What is known of the parts of a work that are under way or have failed: a small file for each.

Who does a part writes it, every `EVERY` seconds at most; who wants to know reads it, on any machine
that sees the folder. That a part is marked as running does not say that its process lives. The file
of a part that is done is deleted.
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from tlx.train import metrics_log

EVERY = 5.0
"""Seconds between two files of one part."""


class Mark(NamedTuple):
    """A part that was begun and is not done.

    Attributes:
      fraction: of it that is done, 0 to 1.
      rate: of it a second; 0 where it is not known yet.
      detail: how far it is, in words.
      error: what it failed of, in a sentence; "" while it runs.
      job: of the scheduler that runs it; "" where there is none.
      process: that is at it, in words.
    """

    fraction: float
    rate: float
    detail: str
    error: str
    job: str
    process: str

    @property
    def seconds_left(self) -> float | None:
        """Until it is done at this rate; None where that is not known."""
        return (1 - self.fraction) / self.rate if self.rate else None


class Marks:
    """Writes the files of the parts that this process does, or has others do.

    Args:
      folder: where they are; made where missing.
      job: of the scheduler, that this process is.
      now: the time in seconds.
    """

    def __init__(
        self, folder: Path, *, job: str = "", now: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder, self._now = folder, now
        self._empty = Mark(0.0, 0.0, "", "", job, f"process {os.getpid()} on {_host()}")
        self._first: dict[int, tuple[float, float]] = {}
        self._written: dict[int, float] = {}

    def begun(self, number: int) -> None:
        """A part is begun."""
        self._first.pop(number, None)
        self._write(number, self._empty)

    def told(self, number: int, fraction: float, detail: str) -> None:
        """A part is done to this fraction, 0 to 1."""
        now = self._now()
        begun, since = self._first.setdefault(number, (fraction, now))
        if now - self._written.get(number, -EVERY) >= EVERY:
            rate = (fraction - begun) / (now - since) if now > since else 0.0
            self._write(number, self._empty._replace(fraction=fraction, rate=rate, detail=detail))

    def failed(self, number: int, error: BaseException) -> None:
        """A part cannot be done."""
        self._write(number, self._empty._replace(error=sentence(error)))

    def done(self, number: int) -> None:
        """A part is done."""
        with contextlib.suppress(OSError):
            path(self._folder, number).unlink(missing_ok=True)
            self._folder.rmdir()  # where it was the last

    def _write(self, number: int, mark: Mark) -> None:
        self._written[number] = self._now()
        with contextlib.suppress(OSError):  # it is for those who look only
            self._folder.mkdir(parents=True, exist_ok=True)
            metrics_log.replace_text(path(self._folder, number), json.dumps(mark._asdict()) + "\n")


def path(folder: Path, number: int) -> Path:
    """The file of a part."""
    return folder / f"{number}.json"


def read(folder: Path) -> dict[int, Mark]:
    """The parts that are under way or have failed, by number; without the folder there are none."""
    found = {}
    for file in folder.glob("*.json"):
        with contextlib.suppress(OSError, ValueError, TypeError):  # it is done by now
            found[int(file.stem)] = Mark(**json.loads(file.read_text()))
    return found


def forget_running(folder: Path, numbers: Collection[int] | None = None) -> None:
    """Deletes the marks of parts, of all where None, whose processes have ended or will now."""
    for number, mark in read(folder).items():
        if not mark.error and (numbers is None or number in numbers):
            path(folder, number).unlink(missing_ok=True)


def sentence(error: BaseException) -> str:
    """What went wrong, in a line."""
    text = str(error).strip().partition("\n")[0]
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        return f"out of memory: {text or 'of this machine'}"
    ours = isinstance(error, ValueError | ArithmeticError | OSError | ImportError)
    return text if ours and text else f"{type(error).__name__}: {text}".removesuffix(": ")


def _host() -> str:
    return socket.gethostname()
