"""Which files of a folder are images of which class, and what is left out, by reason."""

import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from tlx.data.pixels import shown

NO_IMAGE = "not an image by its name"
HIDDEN = "hidden"
NO_FILE = "not a file"
LOOP = "a link back to a folder above it"
EMPTY = "a folder without any image"
OUTSIDE = "an image outside the folders of classes"

_JUNK = ("__MACOSX",)  # left beside the data by archives made on a Mac
_NOT_DECODED = ("BUFR", "GRIB", "HDF5", "MPEG", "WMF", "EPS")
"""Formats that Pillow names and does not decode, or by another program alone."""

_NAMED = 3  # of what is left out, in words


class LeftOut(dict[str, list[str]]):
    """What of a folder is left out: paths below it, by reason."""

    def add(self, reason: str, path: str) -> None:
        """Notes a path."""
        self.setdefault(reason, []).append(path)


def in_words(left_out: Mapping[str, list[str]]) -> str:
    """How many were left out for each reason, with a few names; "" if nothing was."""
    parts = []
    for reason, paths in sorted(left_out.items()):
        names = ", ".join(map(shown, paths[:_NAMED])) + (", …" if len(paths) > _NAMED else "")
        parts.append(f"{len(paths):,} {reason} ({names})")
    return "; ".join(parts)


@functools.cache
def suffixes() -> tuple[str, ...]:
    """The endings of the names of images: those of all formats that Pillow decodes."""
    from PIL import Image

    formats = Image.registered_extensions()
    return tuple(
        sorted(end for end, of in formats.items() if of in Image.OPEN and of not in _NOT_DECODED)
    )


def is_image(name: str) -> bool:
    """Whether a file is an image by its name, in capitals too."""
    return os.path.splitext(name)[1].lower() in suffixes()


def is_ignored(name: str) -> bool:
    """Whether a file or folder is hidden, or a remnant of an archive."""
    return name.startswith(".") or name in _JUNK


def folders(root: Path) -> list[str]:
    """The names of the folders of a folder, hidden ones left out, in order."""
    return [e.name for e in _entries(root) if e.is_dir() and not is_ignored(e.name)]


def classes(root: Path) -> dict[str, list[str]]:
    """The folders of a folder that hold images at any depth, each with a few of them."""
    every = ((name, images(root, name, LeftOut())) for name in folders(root))
    found = {name: next(files, None) for name, files in every}
    return {name: [file] for name, file in found.items() if file is not None}


def left_outside(root: Path, left_out: LeftOut, names: Mapping[str, object]) -> None:
    """Notes what of a split is in none of its classes `names`."""
    for entry in _entries(root):
        if is_ignored(entry.name):
            left_out.add(HIDDEN, entry.name)
        elif entry.is_dir():
            if entry.name not in names:
                left_out.add(EMPTY, entry.name)
        else:
            left_out.add(OUTSIDE if is_image(entry.name) else NO_IMAGE, entry.name)


def images(root: Path, below: str, left_out: LeftOut) -> Iterator[str]:
    """The images of a folder and of those in it, as paths below `root`, in order.

    Links are followed, except those that lead back. A broken link is listed, and cannot be read.

    Args:
      root: a folder.
      below: the path in it of the folder to read.
      left_out: notes what is not taken.

    Raises:
      ValueError: if a folder cannot be read, or a name is not UTF-8.
    """
    yield from _walk(root, below, left_out, ())


def _walk(root: Path, below: str, left_out: LeftOut, above: tuple[str, ...]) -> Iterator[str]:
    real = os.path.realpath(root / below)
    if any(f"{one}{os.sep}".startswith(f"{real}{os.sep}") for one in above):
        left_out.add(LOOP, below)
        return
    for entry in _entries(root / below):
        path = f"{below}/{entry.name}"
        if is_ignored(entry.name):
            left_out.add(HIDDEN, path)
        elif entry.is_dir():
            yield from _walk(root, path, left_out, (*above, real))
        elif not is_image(entry.name):
            left_out.add(NO_IMAGE, path)
        elif entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path)):
            yield require_utf8(root, path)
        else:  # a pipe would be waited for without end
            left_out.add(NO_FILE, path)


def require_utf8(root: Path, path: str) -> str:
    """The path.

    Raises:
      ValueError: if it is not UTF-8, as names of classes and files in records are.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{shown(root)}: expected names in UTF-8, got {os.fsencode(path)!r}; rename it"
        ) from None
    return path


def _entries(root: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(root) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(
            f"{shown(root)}: expected a readable folder, got an error ({error.strerror})"
        ) from error
