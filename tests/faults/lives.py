"""The processes of a subject from a start to an end, and the signals that strike them."""

import contextlib
import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import NamedTuple

from tests.faults.changes import Changes
from tests.faults.subjects import Process, Subject

SECONDS = 300.0
"""The most that a life may take."""


STOP = threading.Event()
"""Set where the campaign is to stop."""


class Interrupted(Exception):
    """The campaign is stopped; what is under way does not count."""


class Whole(NamedTuple):
    """A subject that nothing has stopped.

    Attributes:
      workdir: what it left.
      begun: seconds until the first change in the workdir.
      seconds: from then to the end.
      changes: of files, in that time.
    """

    workdir: Path
    begun: float
    seconds: float
    changes: int


class Strike(NamedTuple):
    """Signals at one moment.

    Attributes:
      at: how the moment is given: "change" (a share of the changes of files), "time" (of the time
        from the first change on), "start" (of the time before it).
      share: of these, from the start of the life or the strike before.
      delay: seconds after that.
      signums: one after another.
      gap: seconds between two of them.
      target: "all" of its processes, "first" (the one that was started first), "other" (one of
        those that it has started, or that was started after it).
    """

    at: str
    share: float
    delay: float
    signums: tuple[signal.Signals, ...]
    gap: float
    target: str

    @property
    def ends_at_once(self) -> bool:
        """Whether those that are struck may end without having told the others."""
        return signal.SIGKILL in self.signums or len(self.signums) > 1


def drawn(rng: random.Random, subject: Subject, kind: str) -> Strike:
    """A random strike; half are at changes of files, of which most are within saves."""
    at = rng.choices(("change", "time", "start"), (10, 8, 1))[0]
    share = rng.random() ** 2  # so that a workdir sees several
    signums: tuple[signal.Signals, ...] = (signal.SIGKILL,)
    targets = ["all"]
    if kind.endswith("-term"):
        term, interrupt = signal.SIGTERM, signal.SIGINT
        bursts = [(term,), (term, term), (term, signal.SIGKILL)]
        if at != "start":  # Python itself answers Ctrl-C while it imports
            bursts += [(interrupt,), (interrupt, term), (term, interrupt, signal.SIGKILL)]
        signums = rng.choice(bursts)
    if subject.processes > 1 or subject.command == "study":
        targets += ["first"] if kind.endswith("-term") else ["first", "other"]
    delay = rng.choice((0.0, rng.random() * 0.005))
    return Strike(at, share, delay, signums, rng.random() ** 3, rng.choice(targets))


class Life:
    """The processes of a subject from a start to an end."""

    def __init__(
        self, subject: Subject, workdir: Path, out: Path, *, is_forked: bool = False
    ) -> None:
        self._subject, self._begun = subject, time.monotonic()
        self._first: float | None = None
        self._count = 0
        self.processes: list[Process] = subject.start(workdir, out, is_forked=is_forked)

    def is_over(self) -> bool:
        """Whether every process that was started has ended."""
        return not any(process.poll() is None for process in self.processes)

    def wait(self, strike: Strike, whole: Whole, changes: Changes) -> bool:
        """Waits for the moment of a strike; False where the end came first."""
        while not self.is_over():
            if STOP.is_set():
                raise Interrupted
            if time.monotonic() - self._begun > SECONDS:
                return True
            found, now = changes.wait(0.002), time.monotonic()
            if found and self._first is None:
                self._first = now
            self._count += found
            if self._is_due(strike, whole, now):
                time.sleep(strike.delay)
                return not self.is_over()
        return False

    def _is_due(self, strike: Strike, whole: Whole, now: float) -> bool:
        if strike.at == "start":
            is_late = now - self._begun >= strike.share * whole.begun
            return is_late or self._first is not None
        if self._first is None:
            return False
        if strike.at == "time":
            return now - self._first >= strike.share * whole.seconds
        return self._count >= max(1.0, strike.share * whole.changes)

    def hit(self, strike: Strike, rng: random.Random) -> bool:
        """Sends the signals; False where the one that is meant is not there."""
        pids = self._targets(strike, rng)
        for number, signum in enumerate(strike.signums if pids else ()):
            time.sleep(strike.gap if number else 0.0)
            for pid in pids:
                send(pid, signum)
        self._first, self._count = time.monotonic(), 0
        return bool(pids)

    def _targets(self, strike: Strike, rng: random.Random) -> list[int]:
        alive = [process.pid for process in self.processes if process.poll() is None]
        first = self.processes[0].pid
        if self._subject.command == "study":
            others = [pid for pid in session(first) if "spawn_main" in _words(pid)]
        else:
            others = [pid for pid in alive if pid != first]
        if strike.target == "other":
            return [rng.choice(others)] if others else []
        return [pid for pid in alive if pid == first] if strike.target == "first" else [
            *alive, *(pid for pid in others if pid not in alive)
        ]  # fmt: skip

    def left(self) -> list[int]:
        """Processes that are still there, those that others have started included."""
        return [pid for process in self.processes for pid in session(process.pid)]

    def end(self, seconds: float) -> int:
        """Waits for the end of all; how many had to be ended after so many seconds."""
        begun = time.monotonic()
        while (left := self.left()) and time.monotonic() - begun < seconds:
            if STOP.wait(0.01):
                raise Interrupted
        for pid in left:
            send(pid, signal.SIGKILL)
        for process in self.processes:
            process.wait()
        while self.left():
            time.sleep(0.01)
        return len(left)


def session(leader: int) -> list[int]:
    """The processes of a session that have not ended."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == leader and fields[0] not in "ZX":
                    found.append(int(entry.name))
    return found


def _words(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def send(pid: int, signum: int) -> None:
    """Sends a signal to a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)


def whole(subject: Subject, folder: Path) -> Whole:
    """What a subject leaves that nothing stops; the second of two, when all has been compiled.

    Raises:
      RuntimeError: it ended with another status than 0.
    """
    for each in ("first", "whole"):
        shutil.rmtree(folder / each, ignore_errors=True)
        (folder / each).mkdir(parents=True)
        out = folder / f"{each}.txt"
        with Changes(folder / each) as changes:
            begun = time.monotonic()
            life = Life(subject, folder / each / "w", out)
            first, last, count = begun, begun, 0
            while not life.is_over():
                if found := changes.wait(0.05):
                    last, count = time.monotonic(), count + found
                    first = last if count == found else first
        if any(process.returncode for process in life.processes):
            raise RuntimeError(f"tlx {subject.command} failed: {out.read_text()}")
    return Whole(folder / "whole" / "w", first - begun, last - first, count)
