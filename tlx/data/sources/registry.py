"""The registry of sources: which names there are, and how one is opened."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from tlx.core.checks import unknown
from tlx.data.labelled import Source

Opener: TypeAlias = Callable[[str], Source]
"""`split -> Source`; raises ValueError, naming the splits, for an unknown one."""


class Request(NamedTuple):
    """A request for a source; see `open_source`."""

    name: str
    split: str
    folder: str | None
    train_split: str | None


@dataclass(frozen=True)
class Reader:
    """How the sources of a name are read.

    Attributes:
      open: a request to a `Source`; packages that it needs are imported there and not before.
      splits: the splits it has; None: they depend on the files.
      split_problem: what is wrong with the name of a split, if `splits` is None.
      lacks: of a name, the package or files that are not there, with the command that helps.
      reads_files: whether the files of this machine decide if it can be opened.
    """

    open: Callable[[Request], Source]
    splits: tuple[str, ...] | None = None
    split_problem: Callable[[str], str | None] = lambda split: None
    lacks: Callable[[str], str | None] = lambda name: None
    reads_files: bool = False


_READERS: dict[str, Reader] = {}


def register(name: str, reader: Reader) -> None:
    """Adds a reader of the sources of a name; one ending in "/" of all names that begin with it."""
    if _reader(name) is not None:
        raise ValueError(f"expected a new source name, got {name!r}, which is taken")
    _READERS[name] = reader


def needs(package: str, extra: str) -> Callable[[str], str | None]:
    """What to say of a source whose reader imports a package, if that is not installed."""

    def lacks(name: str) -> str | None:
        if importlib.util.find_spec(package) is not None:
            return None
        return (
            f"the source {name!r} needs the package {package}, which is not installed; run: "
            f"pip install '.[{extra}]' in the clone of tlx"
        )

    return lacks


def _reader(name: str) -> Reader | None:
    prefix = name.partition("/")[0] + "/"
    return _READERS.get(name) or _READERS.get(prefix)


def register_source(
    name: str, opener: Opener, *, splits: tuple[str, ...] = ("train", "test")
) -> None:
    """Adds a source under a new name, for specs to use.

    Args:
      name: new, and not starting with "tfds/".
      opener: `split -> Source`, called each time the source is opened.
      splits: the splits that it has, for the check of specs.

    Raises:
      ValueError: if the name is taken.
    """
    register(name, Reader(lambda request: opener(request.split), splits))


def known() -> tuple[str, ...]:
    """The names that `open_source` takes, "tfds/NAME" standing for all of its kind."""
    whole = sorted(name for name in _READERS if not name.endswith("/"))
    return (*whole, *(f"{name}NAME" for name in sorted(_READERS) if name.endswith("/")))


def name_problem(name: str) -> str | None:
    """What is wrong with a source's name, in words, without opening anything; None if nothing."""
    if name.endswith("/") and name in _READERS:
        return f"expected {name}NAME with the name of a dataset, got {name!r}"
    if _reader(name) is not None:
        return None
    problem = unknown("source", name, known())
    if name.isidentifier():  # as the names of tensorflow-datasets are
        problem += f"; if it is a dataset of tensorflow-datasets, write tfds/{name}"
    return problem


def split_problem(name: str, split: str) -> str | None:
    """What is wrong with a split of a known source, as far as is known without opening it."""
    reader = _reader(name)
    if reader is None:
        return None
    if reader.splits is None or split in reader.splits:
        return reader.split_problem(split)
    return unknown(f"split of {name!r}", split, reader.splits)


def lacking(name: str) -> str | None:
    """The package or files that a known source needs and that are not there, and the remedy."""
    reader = _reader(name)
    return reader.lacks(name) if reader else None


def unavailable(
    name: str, split: str, folder: str | None = None, *, train_split: str | None = None
) -> str | None:
    """What this machine lacks to open a source, with the command that helps; None if nothing.

    A missing package, folder or file, or a tensorflow-datasets dataset or split that is not
    prepared here.
    """
    missing, reader = lacking(name), _reader(name)
    if missing or reader is None or not reader.reads_files:
        return missing
    try:
        open_source(name, split, folder, train_split=train_split)
    except ValueError as error:
        return str(error)
    return None


def open_source(
    name: str, split: str, folder: str | None = None, *, train_split: str | None = None
) -> Source:
    """The source of a name, opened at a split.

    Args:
      name: one of `known()`.
      split: one of its splits; for "tfds/NAME" whatever tensorflow-datasets reads, as
        "train[:80%]".
      folder: where the files are of a source that reads files; None: $TLX_DATA_DIR/NAME.
      train_split: the split whose classes count, for a source that reads them from its files
        ("folder"); None: see `tlx.data.sources.folder.open_folder`.

    Returns:
      the source; packages that it needs are imported here and not before.

    Raises:
      ValueError: if the name or split is unknown, or a package or the data are missing or
        broken (with the command that installs or prepares them).
    """
    problem = name_problem(name) or split_problem(name, split) or lacking(name)
    reader = _reader(name)
    if problem or reader is None:
        raise ValueError(problem)
    return reader.open(Request(name, split, folder, train_split))
