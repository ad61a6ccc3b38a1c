"""Digests of the content of files, cheap to compute again.

A file is read once. Its digest is then cached, in the user's cache folder, with its size, the
times of its last change (of content, mtime, and of anything, ctime) and its inode, and reused
while all four are the same. Setting mtime back does not help to deceive: it changes ctime, which
no program can set. A file that changed so shortly before it was read that a further change could
have the same times is read again each time (git's rule for its index).

The cache is optional: where it is absent, damaged, not private or cannot be written, files are
read again.
"""

import hashlib
import json
import logging
import os
import secrets
import stat
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tlx.core import cache

ABSENT = "absent"
"""The digest of a file that does not exist or cannot be read."""

RACY_NS = 2 * 10**9
"""Times of change are this coarse at worst (2 s, of FAT), so newer files are not remembered."""

SHOWN_SECONDS = 10.0
"""The interval at which a long first reading logs its progress."""

MOST_FOLDERS = 100
"""The number of folders whose files are remembered."""

_KEPT = 16  # folders whose digests a process holds; others are loaded again from the cache
_THREADS = 16  # reading waits for discs, and hashing leaves Python to others
_PART = 128  # files a thread takes at a time
_FORMAT = "1"  # of the cache; others are not read

_Table: TypeAlias = dict[str, list[Any]]  # name -> size, mtime, ctime, inode, digest
_REMEMBERED: dict[str, _Table] = {}


def of_examples(folder: Path, names: Sequence[str], labels: np.ndarray, **form: str | int) -> str:
    """sha256 of labelled files: their names, labels and bytes, by example, and their form.

    Not of the folder's name or place. The order counts, because subsets are chosen by it.

    Args:
      folder: that the names are relative to.
      names: of the files, one an example; a name may stand more than once.
      labels: numbers [N] or [N, classes].
      **form: what else decides the examples.
    """
    digest = hashlib.sha256(json.dumps([form, list(labels.shape)], sort_keys=True).encode())
    digest.update(np.ascontiguousarray(labels, np.float64).data)
    for pair in zip(names, of_files(folder, names), strict=True):
        digest.update(json.dumps(pair).encode())  # escaped, so that no two lists look alike
    return digest.hexdigest()


def of_files(folder: Path, names: Iterable[str]) -> list[str]:
    """The sha256 of each file's bytes; `ABSENT` for one that cannot be read.

    Args:
      folder: that the names are relative to.
      names: of the files.

    Cost: a look at each file (some 5 µs on a local disc) where nothing changed; reading all of
    them the first time, in threads, logged to "tlx" if it takes long.
    """
    root, wanted = os.path.realpath(folder), list(names)
    if root not in _REMEMBERED:
        while len(_REMEMBERED) >= _KEPT:
            _REMEMBERED.pop(next(iter(_REMEMBERED)))
        _REMEMBERED[root] = _load(root)
    table = _REMEMBERED[root]
    unique = list(dict.fromkeys(wanted))
    parts = [unique[i : i + _PART] for i in range(0, len(unique), _PART)]
    found: dict[str, str] = {}
    new: _Table = {}
    shown = time.monotonic()
    pool = ThreadPoolExecutor(_THREADS)
    try:
        for part in pool.map(
            lambda part: [_digest(root, name, table, new) for name in part], parts
        ):
            found.update(zip(unique[len(found) :], part, strict=False))
            if time.monotonic() - shown >= SHOWN_SECONDS:
                shown = time.monotonic()
                _show(f"reading {folder} to know its content: {len(found):,} of {len(unique):,}")
    finally:  # what was read before a stop is not read again
        pool.shutdown(cancel_futures=True)
        if new:
            table.update(new)
            _store(root, table)
    return [found[name] for name in wanted]


def _show(text: str) -> None:
    logging.getLogger("tlx").warning("%s", text)


def _digest(root: str, name: str, table: _Table, new: _Table) -> str:
    path = os.path.join(root, name)
    try:
        before = os.stat(path)
        stamp = _stamp(before)
        known = table.get(name)
        if known is not None and known[:4] == stamp:
            return str(known[4])
        if not stat.S_ISREG(before.st_mode):  # reading a pipe would wait for ever
            return ABSENT
        began = time.time_ns()
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        is_settled = not _is_racy(before, began) and _stamp(os.stat(path)) == stamp
    except OSError:
        return ABSENT
    if is_settled:
        new[name] = [*stamp, digest]
    return digest


def _stamp(of: os.stat_result) -> list[int]:
    return [of.st_size, of.st_mtime_ns, of.st_ctime_ns, of.st_ino]


def _is_racy(of: os.stat_result, now: int) -> bool:
    """Whether a change after `now` could have the times of the file."""
    return of.st_ctime_ns > now - RACY_NS or abs(now - of.st_mtime_ns) < RACY_NS


def _place(root: str) -> Path | None:
    folder = cache.folder("files")
    name = hashlib.sha256(os.fsencode(root)).hexdigest()[:32]
    return None if folder is None else folder / f"{name}.{_FORMAT}"


def _load(root: str) -> _Table:
    """What is remembered of a folder; nothing if that is absent or damaged."""
    place = _place(root)
    try:
        digest, _, text = (b"" if place is None else place.read_bytes()).partition(b"\n")
    except OSError:
        return {}
    if hashlib.sha256(text).hexdigest().encode() != digest:
        return {}
    table: _Table = json.loads(text)
    return table


def _prune(folder: Path) -> None:
    """Forgets the folders that were written longest ago, above `MOST_FOLDERS`."""
    files = sorted(folder.glob(f"*.{_FORMAT}"), key=lambda file: file.stat().st_mtime)
    for file in files[:-MOST_FOLDERS]:
        file.unlink(missing_ok=True)


def _store(root: str, table: _Table) -> None:
    """Remembers what is known of a folder, with what other processes have written meanwhile."""
    place = _place(root)
    if place is None:
        return
    text = json.dumps({**_load(root), **table}, separators=(",", ":")).encode()
    temporary = place.with_name(f".{place.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
        temporary.replace(place)
        _prune(place.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        logging.getLogger("tlx").info("digests of files are not remembered: %s", error)
