"""A check of a source before training: its size, classes, decoding speed and broken images."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tlx.data import listing
from tlx.data.labelled import BadImage, Source
from tlx.data.sources import open_source

SAMPLE = 512
"""Examples that are decoded unless all are."""

SHOWN = 24
"""Images that are kept for a picture."""


class SourceCheck(NamedTuple):
    """The result of `check`.

    Attributes:
      num_examples: of the split.
      num_classes: of the source.
      names: of the classes, or their numbers.
      decoded: how many examples were decoded, spread evenly over the split.
      per_class: int64 [C], how many of those have the class (or the label, if several).
      sizes: the smallest and the largest (height, width, channels), in the order of pixels.
      bad: the number of each example that cannot be read, and why.
      left_out: paths of what the files hold besides the examples, by reason.
      images_per_second: decoded by one thread; NaN if there were none.
      images: up to `SHOWN` images uint8 [H, W, C], spread evenly over the decoded ones.
      titles: the class or labels of each of them.
    """

    num_examples: int
    num_classes: int
    names: tuple[str, ...]
    decoded: int
    per_class: np.ndarray
    sizes: tuple[tuple[int, ...], tuple[int, ...]]
    bad: dict[int, str]
    left_out: dict[str, list[str]]
    images_per_second: float
    images: tuple[np.ndarray, ...]
    titles: tuple[str, ...]


def check(
    name: str,
    split: str,
    folder: str | None = None,
    *,
    every: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SourceCheck:
    """What is found in a split, some of it decoded, or all.

    Args:
      name: of a source.
      split: of that.
      folder: as in `DataSpec`.
      every: decode all examples and not only `SAMPLE`.
      progress: called from time to time with the numbers done and to do.

    Raises:
      ValueError: if the source cannot be opened, or a label is out of range.
    """
    source = open_source(name, split, folder)
    total = len(source) if every else min(SAMPLE, len(source))
    numbers = np.unique(np.linspace(0, len(source) - 1, total).round().astype(int))
    kept = set(numbers[np.unique(np.linspace(0, len(numbers) - 1, SHOWN).round().astype(int))])
    names = source.class_names or tuple(map(str, range(source.num_classes)))
    per_class = np.zeros(source.num_classes, np.int64)
    bad: dict[int, str] = {}
    sizes: list[tuple[int, ...]] = []
    images, titles = [], []
    seconds = 0.0
    for done, number in enumerate(numbers):
        progress(done + 1, len(numbers))
        begun = time.perf_counter()
        try:
            example = source[int(number)]
        except BadImage as error:
            bad[int(number)] = str(error)
            continue
        image = np.asarray(example["image"])
        seconds += time.perf_counter() - begun
        of = _classes(source, int(number), example["label"])
        per_class[of] += 1
        sizes.append(image.shape)
        if number in kept:
            images.append(image)
            titles.append(", ".join(names[label] for label in of) or "none")
    by_pixels = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    return SourceCheck(
        num_examples=len(source),
        num_classes=source.num_classes,
        names=names,
        decoded=len(sizes),
        per_class=per_class,
        sizes=(by_pixels[0], by_pixels[-1]) if by_pixels else ((), ()),
        bad=bad,
        left_out=dict(getattr(source, "left_out", {})),  # of those that read folders
        images_per_second=len(sizes) / seconds if seconds else float("nan"),
        images=tuple(images),
        titles=tuple(titles),
    )


def _classes(source: Source, number: int, label: object) -> list[int]:
    """The classes of an example: one, or those whose label is 1."""
    value = np.asarray(label)
    found = [int(value)] if value.ndim == 0 else [int(i) for i in np.flatnonzero(value)]
    beyond = value.ndim == 1 and len(value) != source.num_classes
    if beyond or any(not 0 <= one < source.num_classes for one in found):
        raise ValueError(
            f"{source.name}, example {number}: expected a label in 0 to {source.num_classes - 1}, "
            f"or {source.num_classes} of 0 and 1, got {label!r}"
        )
    return found


def summary(found: SourceCheck) -> str:
    """The result as lines for a terminal."""
    lines = [f"{found.num_examples:,} examples, {found.num_classes} classes"]
    if found.decoded:
        smallest, largest = (" x ".join(map(str, size)) for size in found.sizes)
        lines.append(f"{found.decoded:,} decoded: {smallest} to {largest}")
        lines.append(f"{found.images_per_second:,.0f} images a second in one thread")
        lines.append(f"of those decoded: {_counts(found)}")
    if found.left_out:
        lines.append(f"left out: {listing.in_words(found.left_out)}")
    if found.bad:
        lines.append(f"{len(found.bad)} cannot be read:")
        lines += [f"  {number}: {text}" for number, text in list(found.bad.items())[:SHOWN]]
    return "\n".join(lines)


def _counts(found: SourceCheck) -> str:
    """Each class with its number; where there are many, the rarest and the most frequent."""
    order = np.argsort(found.per_class, kind="stable")
    text = [f"{found.names[i]} {found.per_class[i]:,}" for i in range(found.num_classes)]
    if found.num_classes <= SHOWN:
        return ", ".join(text)
    first, last = (", ".join(text[i] for i in part) for part in (order[:5], order[-5:]))
    return f"{first} … {last}"
