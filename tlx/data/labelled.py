"""What a source of labelled images is, and the one that is held in memory."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypedDict

import numpy as np


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
    def class_names(self) -> tuple[str, ...] | None:
        """The names of the classes, if they have names."""

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digest of what the examples are, for caches and the keys of records."""

    def __len__(self) -> int:
        """The number of examples, N."""

    def __getitem__(self, index: int, /) -> Example:
        """Example `index`, 0 to N - 1; the same each time, from any thread."""


class BadImage(ValueError):
    """An image that cannot be read; says which file and why."""


@dataclass(frozen=True, eq=False)
class ArraySource:
    """A source held in memory.

    Attributes:
      name: what to call it.
      split: the name of this part.
      images: uint8 [N, H, W, C].
      labels: whole numbers [N], or 0/1 numbers [N, num_classes] for several a image.
      num_classes: C.
      class_names: of the classes, if they have names.

    Raises:
      ValueError: if dtype, shapes or lengths are others, or a label is out of range or
        not whole.
    """

    name: str
    split: str
    images: np.ndarray
    labels: np.ndarray
    num_classes: int
    class_names: tuple[str, ...] | None = None

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
        if labels.ndim == 2:
            if labels.shape[1] != self.num_classes or not np.isin(labels, (0, 1)).all():
                raise ValueError(
                    f"{where}: expected labels [N, {self.num_classes}] of 0 and 1, got "
                    f"{list(labels.shape)} with values {np.unique(labels)[:4]}"
                )
        elif labels.size and not 0 <= labels.min() <= labels.max() < self.num_classes:
            raise ValueError(
                f"{where}: expected labels in 0 to {self.num_classes - 1}, got "
                f"{labels.min()} to {labels.max()}"
            )
        elif (labels % 1 != 0).any():
            raise ValueError(
                f"{where}: expected labels that are whole numbers, got "
                f"{labels[labels % 1 != 0][0]}; give the number of each image's class"
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
