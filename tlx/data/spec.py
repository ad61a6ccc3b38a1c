"""What data a run sees: one frozen, hashable description, checked before any work."""

import math
from dataclasses import dataclass
from typing import Any

from tlx.core.checks import unknown
from tlx.data import sources
from tlx.data.permutations import block_sizes

AUGMENTS = ("crop", "flip")
SHUFFLES = ("none", "block", "channel_block", "pixel")


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """What data a run sees, from the source's name to the size of its batches.

    Order of operations: decode, fit to `image_size` and `channels` (uint8); in training
    `augment`; normalise; shuffle.

    Attributes:
      name: a source of `tlx.data.sources` ("mnist5k", "digits", "fashion_mnist",
        "tfds/NAME[:version]", or a registered one).
      train_split: the source's split for training.
      test_split: the source's split for testing.
      train_size: how many examples of the training split to use, chosen by one fixed
        permutation (see `tlx.data.loader.subset`); None for all.
      valid_size: how many examples of the training split are held out, the last of that
        permutation, so that a step or a rate can be chosen by them and not on the test set.
      image_size: side in pixels of the square images, 1 or more.
      channels: 1 (grey) or 3 (colour).
      mean: subtracted, one number a channel, for values in 0 to 1.
      std: divided by, one number a channel, above 0.
      augment: any of "flip", "crop" (padding of image_size // 8) and "crop:PADDING".
      shuffle: "none", "block:SIZE", "channel_block:SIZE" or "pixel", for training and test.
      shuffle_seed: seed of the one fixed permutation, 0 to 2³² - 1.
      batch_size: rows in a training batch, over all processes.
      eval_batch_size: rows in an evaluation batch.
    """

    name: str
    train_split: str = "train"
    test_split: str = "test"
    train_size: int | None = None
    valid_size: int = 0
    image_size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: tuple[str, ...] = ()
    shuffle: str = "none"
    shuffle_seed: int = 1234
    batch_size: int = 64
    eval_batch_size: int = 256

    def problems(self) -> list[str]:
        """Everything that is wrong with the values, each in words; empty if nothing is.

        Opens no data and needs no data package: see `unavailable` for what this machine
        lacks. Each message starts with the name of the field.
        """
        found = _wrong_types(self)
        if found:  # the rules below compare and index values
            return found
        checks = {
            "name": sources.name_problem(self.name),
            "train_split": sources.split_problem(self.name, self.train_split),
            "test_split": sources.split_problem(self.name, self.test_split),
        }
        found += [f"{field}: {problem}" for field, problem in checks.items() if problem]
        for field, lowest in _LOWEST.items():
            value = getattr(self, field)
            if value is not None and value < lowest:
                found.append(f"{field}: expected {lowest} or more, got {value}")
        if self.channels not in (1, 3):
            found.append(f"channels: expected 1 (grey) or 3 (colour), got {self.channels}")
        if not 0 <= self.shuffle_seed < 2**32:
            found.append(f"shuffle_seed: expected 0 to 2**32 - 1, got {self.shuffle_seed}")
        return found + _statistics(self) + _augments(self) + _shuffle(self)

    def unavailable(self) -> list[str]:
        """What this machine lacks for these data, each in words with the command that helps.

        For the check before a long study: a missing package or a dataset that has not been
        prepared. Reads at most the metadata of prepared data, never whole splits.
        """
        found = [sources.unavailable(self.name, s) for s in (self.train_split, self.test_split)]
        return list(dict.fromkeys(f"name: {message}" for message in found if message))


_LOWEST = {"train_size": 1, "valid_size": 0, "image_size": 1, "batch_size": 1, "eval_batch_size": 1}
_TYPES: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "train_split": (str,),
    "test_split": (str,),
    "train_size": (int, type(None)),
    "valid_size": (int,),
    "image_size": (int,),
    "channels": (int,),
    "mean": (tuple,),
    "std": (tuple,),
    "augment": (tuple,),
    "shuffle": (str,),
    "shuffle_seed": (int,),
    "batch_size": (int,),
    "eval_batch_size": (int,),
}
_ITEMS: dict[str, tuple[type, ...]] = {"mean": (int, float), "std": (int, float), "augment": (str,)}


def parse_shuffle(text: str) -> tuple[str, int]:
    """The kind of a shuffle and its block size, 0 where the kind has none.

    Raises:
      ValueError: if the kind is unknown or the size is missing, unwanted or no number.

    >>> parse_shuffle("block:8")
    ('block', 8)
    """
    kind, colon, size = text.partition(":")
    if kind not in SHUFFLES:
        raise ValueError(unknown("shuffle", kind, SHUFFLES))
    sized = kind in ("block", "channel_block")
    if sized and not (size.isascii() and size.isdigit() and int(size) >= 1):
        raise ValueError(f"{kind!r} needs a block size of 1 or more, as {kind}:8, got {text!r}")
    if not sized and colon:
        raise ValueError(f"{kind!r} takes no size, got {text!r}")
    return kind, int(size) if sized else 0


def parse_augment(text: str, image_size: int) -> tuple[str, int]:
    """The kind of an augmentation and its padding, 0 where the kind has none.

    Args:
      text: "flip", "crop" (padding of image_size // 8, at least 1) or "crop:PADDING".
      image_size: side of the images in pixels.

    Raises:
      ValueError: if the kind is unknown or the padding is unwanted, no number, or not in
        1 to image_size.

    >>> parse_augment("crop", 32)
    ('crop', 4)
    """
    kind, colon, padding = text.partition(":")
    if kind not in AUGMENTS:
        raise ValueError(unknown("augmentation", kind, AUGMENTS))
    if kind == "flip":
        if colon:
            raise ValueError(f"'flip' takes no number, got {text!r}")
        return kind, 0
    if not colon:
        return kind, max(1, image_size // 8)
    if not (padding.isascii() and padding.isdigit() and 1 <= int(padding) <= image_size):
        raise ValueError(f"'crop' needs a padding of 1 to {image_size} (image_size), got {text!r}")
    return kind, int(padding)


def _is(value: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def _wrong_types(spec: DataSpec) -> list[str]:
    found = []
    for field, kinds in _TYPES.items():
        value = getattr(spec, field)
        wanted = " or ".join("None" if k is type(None) else k.__name__ for k in kinds)
        if not _is(value, kinds):
            found.append(f"{field}: expected {wanted}, got {value!r} ({type(value).__name__})")
        elif field in _ITEMS and not all(_is(item, _ITEMS[field]) for item in value):
            items = _ITEMS[field][-1].__name__
            found.append(f"{field}: expected a tuple of {items}, got {value!r}")
    return found


def _statistics(spec: DataSpec) -> list[str]:
    found = []
    for field in ("mean", "std"):
        values = getattr(spec, field)
        if spec.channels in (1, 3) and len(values) != spec.channels:
            count = "one number" if spec.channels == 1 else f"{spec.channels} numbers"
            found.append(f"{field}: expected {count}, one a channel, got {values}")
        if not all(map(math.isfinite, values)):
            found.append(f"{field}: expected finite numbers, got {values}")
    if any(value <= 0 for value in spec.std):
        found.append(f"std: expected numbers above 0, got {spec.std}")
    return found


def _augments(spec: DataSpec) -> list[str]:
    found, kinds = [], []
    for text in spec.augment:
        try:
            kinds.append(parse_augment(text, spec.image_size)[0])
        except ValueError as error:
            found.append(f"augment: {error}")
    if len(set(kinds)) < len(kinds):
        found.append(f"augment: expected each kind once, got {spec.augment}")
    return found


def _shuffle(spec: DataSpec) -> list[str]:
    try:
        kind, size = parse_shuffle(spec.shuffle)
    except ValueError as error:
        return [f"shuffle: {error}"]
    if size and spec.image_size >= 1 and spec.image_size % size:
        valid = ", ".join(f"{kind}:{b}" for b in block_sizes(spec.image_size))
        return [
            f"shuffle: {spec.shuffle!r} does not fit image_size {spec.image_size}, which the "
            f"block size must divide; use one of {valid}"
        ]
    return []
