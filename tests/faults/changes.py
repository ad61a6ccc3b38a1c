"""The changes of files below a folder, as they happen: inotify, so on Linux alone."""

import contextlib
import ctypes
import os
import select
import struct
import sys
from pathlib import Path

IS_HERE = sys.platform == "linux"

_CHANGES = 0x002 | 0x008 | 0x040 | 0x080 | 0x100 | 0x200
"""Modified, closed after writing, moved from, moved to, created, deleted."""

_IS_FOLDER, _ONLY_FOLDERS = 0x40000000, 0x01000000
_HEAD = struct.Struct("iIII")  # watch, mask, cookie, length of the name


class Changes:
    """Counts the changes below a folder; a context manager.

    Args:
      folder: is there; what comes into being below it is watched, too.
    """

    def __init__(self, folder: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._folders: dict[int, Path] = {}
        self._watch(folder)

    def _watch(self, folder: Path) -> int:
        """Watches a folder; the number of files and folders that are in it already."""
        flags = _CHANGES | _ONLY_FOLDERS
        number = self._libc.inotify_add_watch(self._fd, os.fsencode(folder), flags)
        if number < 0 or number in self._folders:  # it is gone again, or has been moved
            return 0
        self._folders[number], found = folder, 0
        with contextlib.suppress(OSError):
            for entry in os.scandir(folder):
                found += 1
                if entry.is_dir(follow_symlinks=False):
                    found += self._watch(Path(entry.path))
        return found

    def wait(self, seconds: float) -> int:
        """The number of changes since the last call, as soon as there are any."""
        if not select.select([self._fd], [], [], max(0.0, seconds))[0]:
            return 0
        data, at, found = os.read(self._fd, 65536), 0, 0
        while at < len(data):
            number, mask, _, length = _HEAD.unpack_from(data, at)
            name = data[at + _HEAD.size : at + _HEAD.size + length].rstrip(b"\0")
            at, found = at + _HEAD.size + length, found + 1
            if mask & _IS_FOLDER and mask & 0x180 and number in self._folders:
                found += self._watch(self._folders[number] / os.fsdecode(name))
        return found

    def __enter__(self) -> "Changes":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
