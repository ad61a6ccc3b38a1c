"""The examples of a split: which ones, decoded in memory or on demand, and their key."""

import hashlib
import logging
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tlx.data import listing, recipe
from tlx.data.decode import fit
from tlx.data.labelled import ArraySource, Source
from tlx.data.lazy import Bad, Lazy
from tlx.data.sources import open_source
from tlx.data.spec import DataSpec

IN_MEMORY_BYTES = 2**30
"""Splits whose float32 inputs take at most this (1 GiB) are held decoded in memory."""

SPLITS = ("train", "valid", "test")

_KEPT = 8  # decoded splits kept by a process
_DECODED: dict[tuple[Any, ...], "Arrays"] = {}


class Arrays(NamedTuple):
    """Decoded examples.

    Attributes:
      images: uint8 [N, S, S, C], or float32 in 0 to 1 as `DataSpec.fit` says; not to be written
        to, since other callers share them.
      labels: int32 [N], or float32 [N, classes] where an image can have several.
      mask: bool [N], False where the image cannot be read and both are zeros, so that an example
        has the same number as when decoded on demand; None where all can be read.
    """

    images: np.ndarray
    labels: np.ndarray
    mask: np.ndarray | None = None


Examples: TypeAlias = Arrays | Lazy


def num_examples(data: Examples) -> int:
    """N of either kind."""
    return len(data.labels if isinstance(data, Arrays) else data.numbers)


def is_multilabel(data: Examples) -> bool:
    """Whether an image can have several labels."""
    return data.labels.ndim == 2 if isinstance(data, Arrays) else data.is_multilabel


def subset(
    total: int, size: int | None, held_out: int = 0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Which examples of a split a spec trains on, and which it holds out.

    The first `size` and the last `held_out` of `RandomState(seed).permutation(total)`: the same
    for every seed of a run, and a smaller subset is part of a larger one. A size of None is all
    that are not held out, as they stand.

    Raises:
      ValueError: if there are fewer than `size` and `held_out` examples together.
    """
    if held_out >= total or (size or 1) + held_out > total:
        raise ValueError(
            f"expected train_size and valid_size of at most {total} examples together, got {size} "
            f"and {held_out}; use fewer, or None as train_size for all that are not held out"
        )
    order = np.random.RandomState(seed).permutation(total)
    last = order[total - held_out :]
    return np.setdiff1d(np.arange(total), last) if size is None else order[:size], last


def open_split(spec: DataSpec, split: str) -> tuple[Source, np.ndarray]:
    """The source of a spec's "train", "valid" or "test" split, and the numbers of its examples.

    Raises:
      ValueError: if split is none of them, the source cannot be opened, or train_size and
        valid_size are more than it has.
    """
    if split not in SPLITS:
        raise ValueError(f"expected a split of {SPLITS} (which the spec maps), got {split!r}")
    if split == "test":
        source = _open(spec, spec.test_split)
        return source, _test_subset(len(source), spec)
    source = _open(spec, spec.train_split)
    train, valid = subset(len(source), spec.train_size, spec.valid_size, spec.subset_seed)
    return source, train if split == "train" else valid


def _open(spec: DataSpec, split: str) -> Source:
    return open_source(spec.name, split, spec.folder, train_split=spec.train_split)


def log_left_out(spec: DataSpec) -> None:
    """Logs, in one line per split, what its folder holds besides its examples, if anything."""
    for split in dict.fromkeys((spec.train_split, spec.test_split)):
        source = _open(spec, split)
        found = listing.in_words(getattr(source, "left_out", {}))  # of those that read folders
        if found:
            logging.getLogger("tlx").warning("%s, %s: left out: %s", source.name, split, found)


def _test_subset(total: int, spec: DataSpec) -> np.ndarray:
    if (spec.test_size or 0) > total:
        raise ValueError(
            f"expected test_size of at most {total}, the examples of split {spec.test_split!r}, "
            f"got {spec.test_size}; use fewer, or None for all"
        )
    return subset(total, spec.test_size, seed=spec.subset_seed)[0]


def load(spec: DataSpec, split: str, *, max_bytes: int = IN_MEMORY_BYTES) -> Examples:
    """The examples of a split, decoded in memory if their inputs fit, else to be decoded.

    Training examples that are drawn anew each time (`DataSpec.is_drawn_on_host`) are not held.

    Args:
      spec: what to load.
      split: "train", "valid" (what is held out of it) or "test".
      max_bytes: the most that the float32 inputs of the split may take in memory.

    Raises:
      ValueError: as `open_split`.
    """
    source, numbers = open_split(spec, split)
    is_big = len(numbers) * spec.image_size**2 * spec.channels * 4 > max_bytes
    if is_big or (split == "train" and spec.is_drawn_on_host):
        name = f"{source.name}, {split} examples"
        return Lazy(source, numbers, Bad(name, len(numbers), spec.max_bad))
    return _decoded(source, numbers, spec)


def load_arrays(spec: DataSpec, split: str) -> Arrays:
    """The examples of a split, decoded once and fitted to the spec's size and channels.

    Images that cannot be read are masked, as far as the spec allows (`DataSpec.max_bad`).

    Kept by the process, for the last few splits, by the source's fingerprint.

    Args:
      spec: what to load.
      split: "train" or "valid" (see `subset`), or "test".

    Returns:
      images [N, S, S, C] and labels, neither normalised nor shuffled.

    Raises:
      ValueError: as `open_split`, or an image that is not uint8 with 1 or 3 channels.
    """
    source, numbers = open_split(spec, split)
    return _decoded(source, numbers, spec)


def _decoded(source: Source, numbers: np.ndarray, spec: DataSpec) -> Arrays:
    form = (spec.image_size, spec.channels, spec.fit, spec.max_bad)
    key = (source.fingerprint, numbers.tobytes(), *form)
    if key not in _DECODED:
        while len(_DECODED) >= _KEPT:
            _DECODED.pop(next(iter(_DECODED)))
        _DECODED[key] = _decode(source, numbers, spec)
    return _DECODED[key]


def _decode(source: Source, numbers: np.ndarray, spec: DataSpec) -> Arrays:
    mask = None
    if isinstance(source, ArraySource) and not spec.fit:
        images = fit(source.images[numbers], spec.image_size, spec.channels)
        labels = np.asarray(source.labels[numbers])
        labels = labels.astype(np.int32 if labels.ndim == 1 else np.float32)
    else:
        lazy = Lazy(source, numbers, Bad(source.name, len(numbers), spec.max_bad))
        shape = (len(numbers), spec.image_size, spec.image_size, spec.channels)
        images = np.empty(shape, recipe.pixel_type(spec.fit))
        items = lazy.decode_all(range(len(numbers)), spec)
        found, good = [], np.ones(len(numbers), bool)
        for row, item in enumerate(items):
            images[row], good[row] = item["images"], item["mask"]
            found.append(item["labels"])
        labels = np.stack(found) if found else np.zeros(0, np.int32)
        if not good.all():
            mask = good
            mask.flags.writeable = False
    images.flags.writeable = labels.flags.writeable = False
    return Arrays(images, labels, mask)


def content(spec: DataSpec) -> dict[str, dict[str, Any]]:
    """The identity of the examples of each split of a spec, for the origin of a run.

    Returns:
      {"train": …, "valid": … where examples are held out, "test": …}, each with `digest` (sha256
      of the source's content, its number of classes and which of its examples are taken, in
      order) and `count`. In JSON as it stands.

    Raises:
      ValueError: as `open_split`.
    """
    source = _open(spec, spec.train_split)
    train, valid = subset(len(source), spec.train_size, spec.valid_size, spec.subset_seed)
    parts = {"train": (source, train), "test": open_split(spec, "test")}
    if spec.valid_size:
        parts["valid"] = source, valid
    return {split: _content(*part) for split, part in parts.items()}


def _content(source: Source, numbers: np.ndarray) -> dict[str, Any]:
    text = f"{source.fingerprint} {source.num_classes} "
    digest = hashlib.sha256(text.encode() + numbers.astype("<i8").tobytes())
    return {"digest": digest.hexdigest(), "count": len(numbers)}


def data_key(spec: DataSpec, split: str) -> dict[str, Any]:
    """Everything that evaluation on a split depends on, as JSON, for the key of a record.

    The source with its fingerprint, the number of examples, and the spec's values that
    change what a model sees; batch sizes and augmentation are left out. In JSON as it
    stands: str, int, float and lists.
    """
    source, numbers = open_split(spec, split)
    return {
        "source": source.name,
        "split": spec.test_split if split == "test" else spec.train_split,
        "fingerprint": source.fingerprint,
        "count": len(numbers),
        **({"held_out": spec.valid_size} if split != "test" and spec.valid_size else {}),
        **({"part": "valid"} if split == "valid" else {}),
        **_other_than_default(spec, split),
        "image_size": spec.image_size,
        "channels": spec.channels,
        "mean": [float(x) for x in spec.mean],
        "std": [float(x) for x in spec.std],
        "shuffle": spec.shuffle,
        "shuffle_seed": 0 if spec.shuffle == "none" else spec.shuffle_seed,
    }


def _other_than_default(spec: DataSpec, split: str) -> dict[str, Any]:
    """Fields that came later, named only where they change something: older keys stay valid."""
    found: dict[str, Any] = {}
    if spec.fit:
        found["fit"] = list(spec.fit)
    is_part = spec.test_size if split == "test" else (spec.train_size or spec.valid_size)
    if is_part and spec.subset_seed:
        found["subset_seed"] = spec.subset_seed
    if split == "test" and spec.test_size:
        found["test_size"] = spec.test_size
    return found
