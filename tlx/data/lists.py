"""Text files that list images, checked by file and line."""

import codecs
import csv
from collections.abc import Iterator
from pathlib import Path

from tlx.data.pixels import shown


def lines(file: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text with their numbers from 1; blank ones and a byte-order mark left out.

    Raises:
      ValueError: if the file is not UTF-8, or cannot be read.
    """
    for number, line in enumerate(_text(file).split("\n"), start=1):
        if line.strip():
            yield number, line.removesuffix("\r")


def table(file: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """The lines of a csv file as the cells of some columns, with the numbers of the lines.

    Raises:
      ValueError: if a column is missing or comes twice, a line has more or fewer cells than the
        first, or the file is not UTF-8 or no csv.
    """
    rows = csv.reader(_text(file).splitlines(keepends=True), strict=True)
    try:
        header = [name.strip() for name in next(rows, [])]
        lacking = [name for name in columns if name not in header]
        if lacking:
            raise ValueError(f"{shown(file)}: expected the columns {', '.join(lacking)}, got none")
        twice = [name for name in columns if header.count(name) > 1]
        if twice:
            raise ValueError(
                f"{shown(file)}: expected each column once, got {', '.join(twice)} again"
            )
        at = [header.index(name) for name in columns]
        for row in rows:
            if row and len(row) != len(header):
                raise ValueError(
                    f"{shown(file)}:{rows.line_num}: expected {len(header)} cells, as the first "
                    f"line has, got {len(row)}; is the line cut off?"
                )
            if row:
                yield rows.line_num, [row[i].strip() for i in at]
    except csv.Error as error:
        raise ValueError(
            f"{shown(file)}:{rows.line_num}: expected csv, got another text ({error})"
        ) from error


def relative(file: Path, number: int, path: str) -> str:
    """A path of a list as one below a folder, with slashes.

    Raises:
      ValueError: if it is empty or no path to a file.
    """
    found = path.strip().replace("\\", "/").removeprefix("./")
    if not found or found.endswith("/") or "\0" in found:
        raise ValueError(f"{shown(file)}:{number}: expected the path of an image, got {path!r}")
    return found


def _text(file: Path) -> str:
    try:
        content = file.read_bytes().removeprefix(codecs.BOM_UTF8)
        return content.decode()
    except UnicodeDecodeError as error:
        number = 1 + content[: error.start].count(b"\n")
        raise ValueError(
            f"{shown(file)}:{number}: expected text in UTF-8, got the byte "
            f"0x{content[error.start]:02x}; save it as UTF-8"
        ) from error
    except OSError as error:
        raise ValueError(
            f"{shown(file)}: expected a readable file, got an error ({error.strerror})"
        ) from error
