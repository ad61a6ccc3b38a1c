"""The data of a run: one frozen, hashable description, checked before any work."""

import functools
import math
from dataclasses import dataclass
from typing import Any

from tlx.core.checks import unknown
from tlx.data import recipe, sources
from tlx.data.block_permutations import block_sizes
from tlx.data.randaugment import LARGEST

AUGMENTS = ("affine", "crop", "flip", "randaugment", "resized_crop")
HOST_AUGMENTS = ("affine", "randaugment", "resized_crop")
"""Those of the decoded image at its own size, done on the host when it is read."""

SHUFFLES = ("none", "block", "channel_block", "pixel")


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """The data of a run, from the source's name to the size of its batches.

    Order of operations: decode, fit to `image_size` and `channels` (uint8, float32 after "float");
    in training `augment`; normalise; shuffle. Of the augmentations "affine" comes before the fit,
    "resized_crop" takes its place, and "randaugment" follows it (without `fit` it is of the image
    as it was decoded).

    Attributes:
      name: a source of `tlx.data.sources` ("mnist5k", "digits", "fashion_mnist",
        "tfds/NAME[:version]", or a registered one).
      train_split: the source's split for training.
      test_split: the source's split for testing.
      folder: where the files are of a source that reads files ("folder", "numpy", "chexpert",
        "domainnet/real"); None: in the environment variable TLX_DATA_DIR, below it by name.
      train_size: how many examples of the training split to use, chosen by one fixed
        permutation (see `tlx.data.examples.subset`); None for all.
      test_size: the same of the test split.
      subset_seed: of that permutation, 0 to 2³² - 1.
      valid_size: how many examples of the training split are held out, the last of that
        permutation, so that a step or a rate can be chosen by them and not on the test set.
      image_size: side in pixels of the square images, 1 or more.
      channels: 1 (grey) or 3 (colour).
      mean: subtracted, one number a channel, for values in 0 to 1.
      std: divided by, one number a channel, above 0.
      fit: how a decoded image of any size is brought to `image_size`, as in a published recipe:
        names of `tlx.data.recipe` in order, such as ("resize_short:256", "center_crop:224").
        (): the central square, resized (`decode.fit`).
      augment: any of "flip", "crop" (padding of image_size // 8), "crop:PADDING", and, of the
        image as it was decoded, "resized_crop" (in place of `fit`), "affine" (before it) and
        "randaugment:MAGNITUDE" (after it; 1 to 30, of which 9 is usual).
      max_bad: the share of images, 0 to 1, that may be unreadable. They are named, and left out
        of every mean; one more is an error.
      shuffle: "none", "block:SIZE", "channel_block:SIZE" or "pixel", for training and test.
      shuffle_seed: seed of the one fixed permutation, 0 to 2³² - 1.
      batch_size: rows in a training batch, over all processes.
      eval_batch_size: rows in an evaluation batch.
    """

    name: str
    train_split: str = "train"
    test_split: str = "test"
    folder: str | None = None
    train_size: int | None = None
    valid_size: int = 0
    test_size: int | None = None
    subset_seed: int = 0
    image_size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: tuple[str, ...] = ()
    augment: tuple[str, ...] = ()
    max_bad: float = 0.0
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
        for field in ("shuffle_seed", "subset_seed"):
            if not 0 <= getattr(self, field) < 2**32:
                found.append(f"{field}: expected 0 to 2**32 - 1, got {getattr(self, field)}")
        if not 0 <= self.max_bad <= 1:
            found.append(f"max_bad: expected a share of 0 to 1, got {self.max_bad}")
        return found + _statistics(self) + _fit(self) + _augments(self) + _shuffle(self)

    def host_ops(self, *, train: bool) -> tuple[recipe.HostOp, ...]:
        """What is done to a decoded image on the host, in order; () for the central square.

        Args:
          train: with the augmentations that belong there.
        """
        kinds = [parse_augment(text, self.image_size)[0] for text in self.augment if train]
        if "resized_crop" in kinds:
            fit: tuple[str, ...] = (f"resized_crop:{self.image_size}",)
        else:
            fit = self.fit
        before = ("affine",) if "affine" in kinds else ()
        after = [text for text in self.augment if train and text.startswith("randaugment")]
        return tuple(recipe.parse(text) for text in (*before, *fit, *after))

    @property
    def is_drawn_on_host(self) -> bool:
        """Whether training images are drawn anew each time they are read from their files."""
        return any(op.is_random for op in self.host_ops(train=True))

    @property
    def device_augments(self) -> tuple[str, ...]:
        """The augmentations of fitted images, done in batches on the device."""
        return tuple(t for t in self.augment if t.partition(":")[0] not in HOST_AUGMENTS)

    def unavailable(self) -> list[str]:
        """What this machine lacks for these data, each in words with the command that helps.

        For the check before a long study: a missing package or a dataset that has not been
        prepared. Reads at most the metadata of prepared data, never entire splits.
        """
        lacks = functools.partial(sources.unavailable, train_split=self.train_split)
        found = [lacks(self.name, x, self.folder) for x in (self.train_split, self.test_split)]
        return list(dict.fromkeys(f"name: {message}" for message in found if message))


_LOWEST = {
    "train_size": 1,
    "valid_size": 0,
    "test_size": 1,
    "image_size": 1,
    "batch_size": 1,
    "eval_batch_size": 1,
}
_TYPES: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "train_split": (str,),
    "test_split": (str,),
    "folder": (str, type(None)),
    "train_size": (int, type(None)),
    "valid_size": (int,),
    "test_size": (int, type(None)),
    "subset_seed": (int,),
    "image_size": (int,),
    "channels": (int,),
    "mean": (tuple,),
    "std": (tuple,),
    "fit": (tuple,),
    "augment": (tuple,),
    "max_bad": (int, float),
    "shuffle": (str,),
    "shuffle_seed": (int,),
    "batch_size": (int,),
    "eval_batch_size": (int,),
}
_ITEMS: dict[str, tuple[type, ...]] = {
    "mean": (int, float),
    "std": (int, float),
    "fit": (str,),
    "augment": (str,),
}


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
        raise ValueError(f"expected {kind!r} with a block size, as {kind}:8, got {text!r}")
    if not sized and colon:
        raise ValueError(f"expected {kind!r} without a size, got {text!r}")
    return kind, int(size) if sized else 0


def parse_augment(text: str, image_size: int) -> tuple[str, int]:
    """The kind of an augmentation and its number, 0 where the kind has none.

    Args:
      text: "flip", "crop" (padding of image_size // 8, at least 1), "crop:PADDING", "affine",
        "resized_crop" or "randaugment:MAGNITUDE".
      image_size: side of the images in pixels.

    Raises:
      ValueError: if the kind is unknown or the number is missing, unwanted, no number, or not in
        1 to image_size (of a padding) or 30 (of a magnitude).

    >>> parse_augment("crop", 32)
    ('crop', 4)
    """
    kind, colon, padding = text.partition(":")
    if kind not in AUGMENTS:
        raise ValueError(unknown("augmentation", kind, AUGMENTS))
    if kind == "randaugment":
        if not (padding.isascii() and padding.isdigit() and 1 <= int(padding) <= LARGEST):
            raise ValueError(
                f"expected 'randaugment' with a magnitude of 1 to {LARGEST}, as randaugment:9, got "
                f"{text!r}"
            )
        return kind, int(padding)
    if kind != "crop":
        if colon:
            raise ValueError(f"expected {kind!r} without a number, got {text!r}")
        return kind, 0
    if not colon:
        return kind, max(1, image_size // 8)
    if not (padding.isascii() and padding.isdigit() and 1 <= int(padding) <= image_size):
        raise ValueError(f"expected 'crop' with a padding of 1 to {image_size}, got {text!r}")
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


def _fit(spec: DataSpec) -> list[str]:
    try:
        ops = tuple(recipe.parse(text) for text in spec.fit)
    except ValueError as error:
        return [f"fit: {error}"]
    drawn = [op.name for op in ops if op.is_random]
    if drawn:
        return [f"fit: expected operations without chance, got {', '.join(drawn)}; use augment"]
    if problem := recipe.order_problem(spec.fit, spec.augment):
        return [f"fit: {problem}"]
    size = recipe.output_size(ops)
    if ops and size != spec.image_size:
        left = "any size" if size is None else f"{size} pixels"
        return [
            f"fit: expected operations that leave image_size {spec.image_size}, got {left}; end "
            f"with center_crop:{spec.image_size} or pad:{spec.image_size}"
        ]
    return []


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
            f"shuffle: expected a block size that divides image_size {spec.image_size}, got "
            f"{spec.shuffle!r}; use one of {valid}"
        ]
    return []
