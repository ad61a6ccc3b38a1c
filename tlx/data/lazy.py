"""Examples decoded on demand, and those that cannot be decoded."""

import logging
import math
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tlx.data import recipe
from tlx.data.decode import fit, to_channels
from tlx.data.labelled import BadImage, Source
from tlx.data.spec import DataSpec

THREADS = 8
"""The threads that decode examples which are not in memory."""

_NAMED = 5  # bad images that a message names


class Bad:
    """The images of a split that cannot be read: counted once each, named, limited in number.

    Args:
      name: of the split, for messages.
      total: number of examples.
      max_share: of them that may be bad, 0 to 1.
    """

    def __init__(self, name: str, total: int, max_share: float) -> None:
        self.name, self.total, self.most = name, total, math.floor(max_share * total)
        self.found: dict[int, str] = {}
        self._lock = threading.Lock()

    def add(self, index: int, error: BadImage) -> None:
        """Notes that example `index` is bad.

        Raises:
          ValueError: if there are now more than the share allows, naming the first.
        """
        with self._lock:
            if index not in self.found:
                self.found[index] = str(error)
                logging.getLogger("tlx").warning("left out: %s", error)
            found = sorted(self.found.items())
        if len(found) > self.most:
            lines = "".join(f"\n  {text}" for _, text in found[:_NAMED])
            raise ValueError(
                f"{self.name}: expected at most {self.most} unreadable images by max_bad, got "
                f"{len(found)} of {self.total}; mend or remove them (tlx data check lists all), "
                f"or raise data.max_bad:{lines}"
            ) from error


@dataclass(frozen=True, eq=False)
class Lazy:
    """Examples of a source that are decoded on demand.

    Attributes:
      source: where they are.
      numbers: int64 [N], which of the source's examples, in order.
      bad: those that could not be read.
    """

    source: Source
    numbers: np.ndarray
    bad: Bad

    def decode(self, index: int, spec: DataSpec, *, key: tuple[int, int] | None = None) -> Any:
        """Example `index`, fitted to the spec.

        Args:
          index: 0 to N - 1.
          spec: says how.
          key: two numbers that decide the augmentations of the host (seed and place); None: no
            augmentation.

        Returns:
          `images` [S, S, C] of `recipe.pixel_type`, `labels`, `index` and `mask`. Where the image
          cannot be read: zeros, its index all the same, and a mask of False.

        Raises:
          ValueError: if more images are bad than the spec allows, or a class is not whole.
        """
        try:
            example = self.source[int(self.numbers[index])]
        except BadImage as error:
            self.bad.add(index, error)
            return self._left_out(index, spec)
        rng = None if key is None else np.random.Generator(np.random.Philox(key=key))
        image = prepare(np.asarray(example["image"]), spec, rng)
        return {
            "images": image,
            "labels": self._label(example["label"], index),
            "index": np.int32(index),
            "mask": np.bool_(True),
        }

    def decode_all(self, rows: Iterable[int], spec: DataSpec) -> Iterator[Any]:
        """The examples `rows` in that order, decoded in threads (Pillow leaves them the cores)."""
        with ThreadPoolExecutor(THREADS) as pool:
            yield from pool.map(lambda row: self.decode(row, spec), rows)

    def _left_out(self, index: int, spec: DataSpec) -> dict[str, Any]:
        return {
            "images": np.zeros(
                (spec.image_size, spec.image_size, spec.channels), recipe.pixel_type(spec.fit)
            ),
            "labels": np.zeros_like(self._a_label),
            "index": np.int32(index),
            "mask": np.bool_(False),
        }

    def _label(self, label: Any, index: int) -> np.ndarray:
        value = np.asarray(label)
        if value.ndim:
            return value.astype(np.float32)
        if not float(value).is_integer():
            raise ValueError(
                f"{self.source.name}, example {self.numbers[index]}: expected a whole number as "
                f"label, got {label!r}; give the number of its class"
            )
        return value.astype(np.int32)

    @property
    def is_multilabel(self) -> bool:
        """Whether an image can have several labels."""
        return self._a_label.ndim == 1

    @cached_property
    def _a_label(self) -> np.ndarray:
        """The label of the first image that can be read: its shape is that of all."""
        for index, number in enumerate(self.numbers):
            try:
                return self._label(self.source[int(number)]["label"], index)
            except BadImage as error:
                self.bad.add(index, error)
        raise ValueError(
            f"{self.bad.name}: expected a readable image, got none of {len(self.numbers)}"
        )


def prepare(image: np.ndarray, spec: DataSpec, rng: np.random.Generator | None) -> np.ndarray:
    """A decoded image in the spec's form, augmented on the host if there is a generator.

    Args:
      image: uint8 [..., H, W, C]; one image, unless only the central square is requested.
      spec: says what to do.
      rng: for the augmentations of the host.

    Returns:
      [..., S, S, C] of `recipe.pixel_type`.
    """
    ops = spec.host_ops(train=rng is not None)
    if ops:
        image = recipe.run(ops, image, rng)
    if image.dtype == np.float32:  # of the spec's size, as its check says
        return to_channels(image, spec.channels)
    return fit(image, spec.image_size, spec.channels)
