"""One writer for a folder: a file in it says who writes, and is touched as long as it does.

No lock of the operating system: those do not reach over every network file system, nor from one
container to another. The file comes into being whole by a hard link, which only one of several can
make. Where the owner was killed, the next one takes its place: at once if it ran on this machine,
else after the file has not been touched for `PATIENCE` seconds of this process's clock; clocks of
different machines are never compared.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tlx.core import files

FILE = ".writer"
BEAT = 10.0
"""Seconds between two touches."""

PATIENCE = 90.0
"""Seconds without one after which an owner elsewhere counts as dead: longer than network file
systems keep a file's times in memory."""


class BusyError(ValueError):
    """Another process writes into the folder; the message says which."""


class LostError(BusyError):
    """The folder is gone, or another's, since this process stood still for too long."""


class Owner(NamedTuple):
    """Who writes.

    Attributes:
      token: of this ownership.
      host: the machine's name, for messages.
      machine: of its boot and of its space of process numbers; "" where that is not known.
      pid: of the process, in that space.
      started: when that process began, as its machine counts; "" where that is not known.
    """

    token: str
    host: str
    machine: str
    pid: int
    started: str


class Held:
    """An ownership, while it lasts."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self._path, self._owner = path, owner

    def require(self) -> None:
        """Raises unless this process still owns the folder; before each file is written.

        Raises:
          LostError: another one does.
        """
        there = _read(self._path)
        if there is None:
            raise LostError(
                f"expected {self._path.parent} to stay while it is written, but it was moved or "
                "deleted, or another process has taken it over and ended; nothing more is written. "
                "Give the command again, to go on with what is there then"
            )
        if there.token != self._owner.token:
            raise LostError(
                f"{self._path.parent} is written by {_named(there)} now, since this process "
                "stood still for more than a minute; nothing more is written here"
            )


@contextlib.contextmanager
def hold(
    folder: Path, *, tell: Callable[[str], None] = lambda text: None, patience: float = PATIENCE
) -> Iterator[Held]:
    """Makes this process the only writer of a folder, which is made where missing.

    Args:
      folder: on any file system that the writers share.
      tell: called with a sentence where it has to wait, to see whether an owner is alive.
      patience: seconds, see `PATIENCE`.

    Raises:
      BusyError: another process writes there.
      LostError: something was raised within the context, and the folder is not this process's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, owner = folder / FILE, _this()
    while not _claimed(path, owner):
        there = _read(path)
        if there is not None:
            _require_gone(path, there, tell, patience)
            _put_away(path, there)
    _sweep(path, owner)
    stop = threading.Event()
    beats = threading.Thread(target=_beat, args=(path, owner, stop), daemon=True, name="tlx owner")
    beats.start()
    held = Held(path, owner)
    try:
        yield held
    except Exception:  # of whatever kind, where the folder is another's or gone that is why
        held.require()
        raise
    finally:
        stop.set()
        there = _read(path)
        if there is not None and there.token == owner.token:
            path.unlink(missing_ok=True)


def writer(folder: Path) -> str | None:
    """Who writes into a folder, in words; None where nobody does.

    Where that is a process of another machine, waits up to three `BEAT` for a sign of its life.
    """
    path = folder / FILE
    there = _read(path)
    if there is None:
        return None
    try:
        _require_gone(path, there, lambda text: None, 3 * BEAT)
    except BusyError:
        return _named(there)
    return None


def _this() -> Owner:
    machine = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        machine = f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return Owner(
        uuid.uuid4().hex, socket.gethostname(), machine, os.getpid(), _started(os.getpid())
    )


def _started(pid: int) -> str:
    """When a process of this machine began; "" where there is none, or it cannot be known."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _claimed(path: Path, owner: Owner) -> bool:
    """Whether the file was not there, and is this owner's now; no part of it stays else."""
    text = json.dumps(owner._asdict())
    new = path.with_name(f"{FILE}.{owner.token}")
    try:
        with files.placed(path):
            new.write_text(text)
            try:
                os.link(new, path)
            except (FileExistsError, FileNotFoundError):  # `_sweep` of a new owner takes ours
                return False
            except OSError:  # a file system without links
                return _made(path, text)
    finally:
        new.unlink(missing_ok=True)
    return True


def _made(path: Path, text: str) -> bool:
    """Whether the file was not there, and now is, without links."""
    try:
        file = path.open("x")
    except FileExistsError:
        return False
    try:
        with file:
            file.write(text)
    except OSError:
        path.unlink()
        raise
    return True


def _read(path: Path) -> Owner | None:
    """Who owns the folder; None where nobody does."""
    try:
        values: Any = json.loads(path.read_text())
        return Owner(**values)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):  # cut off: whoever wrote it was killed
        return Owner("", "an unknown machine", "", 0, "")


def _require_gone(path: Path, owner: Owner, tell: Callable[[str], None], patience: float) -> None:
    if owner.machine and owner.machine == _this().machine:
        if _started(owner.pid) == owner.started:
            raise BusyError(_busy(path, owner))
        return
    tell(
        f"{_named(owner)} wrote into {path.parent}: waiting {patience:.0f} s to see whether it "
        "still does"
    )
    seen, until = _touched(path), time.monotonic() + patience
    while time.monotonic() < until:
        time.sleep(min(1.0, patience / 10))
        if _touched(path) != seen:
            raise BusyError(_busy(path, owner))


def _touched(path: Path) -> int | None:
    try:
        with path.open() as file:  # opening asks a network file system anew
            return os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


def _put_away(path: Path, owner: Owner) -> None:
    """Takes the file of a dead owner away; of several that do, one."""
    aside = path.with_name(f"{FILE}.{uuid.uuid4().hex}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(aside)
        taken = _read(aside)
        if taken is not None and taken.token != owner.token:  # a new one's, who was faster
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
        aside.unlink(missing_ok=True)


def _sweep(path: Path, owner: Owner) -> None:
    """Removes what killed processes have left that were claiming the folder."""
    for other in path.parent.glob(f"{FILE}.*"):
        there = _read(other)
        if there is not None and there.token != owner.token:
            other.unlink(missing_ok=True)


def _beat(path: Path, owner: Owner, stop: threading.Event) -> None:
    while not stop.wait(BEAT):
        there = _read(path)
        if there is None or there.token != owner.token:
            return
        with contextlib.suppress(OSError):
            os.utime(path)


def _named(owner: Owner) -> str:
    return f"process {owner.pid} on {owner.host}" if owner.pid else owner.host


def _busy(path: Path, owner: Owner) -> str:
    return (
        f"expected {path.parent} to be written by one process, but {_named(owner)} is writing into "
        "it; wait for it or stop it, or choose another workdir"
    )
