"""The examples of a split: which ones, decoded in memory or when asked for, and their key."""

from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tlx.data.decode import fit
from tlx.data.sources import ArraySource, Source, open_source
from tlx.data.spec import DataSpec

IN_MEMORY_BYTES = 2**30
"""Splits whose float32 inputs take at most this (1 GiB) are held decoded in memory."""

SPLITS = ("train", "valid", "test")

_SUBSET_SEED = 0
_KEPT = 8  # decoded splits kept by a process
_DECODED: dict[tuple[Any, ...], "Arrays"] = {}


class Arrays(NamedTuple):
    """Decoded examples.

    Attributes:
      images: uint8 [N, S, S, C]; not to be written to, other callers share them.
      labels: int32 [N], or float32 [N, classes] where an image can have several.
    """

    images: np.ndarray
    labels: np.ndarray


class Lazy(NamedTuple):
    """Examples of a source that are decoded when they are asked for.

    Attributes:
      source: where they are.
      numbers: int64 [N], which of the source's examples, in order.
    """

    source: Source
    numbers: np.ndarray

    def decode(self, index: int, spec: DataSpec) -> dict[str, Any]:
        """Example `index` as `images` uint8 [S, S, C], `labels` and `index`."""
        example = self.source[int(self.numbers[index])]
        image = fit(np.asarray(example["image"]), spec.image_size, spec.channels)
        return {"images": image, "labels": _label(example["label"]), "index": np.int32(index)}


Examples: TypeAlias = Arrays | Lazy


def num_examples(data: Examples) -> int:
    """N of either kind."""
    return len(data.labels if isinstance(data, Arrays) else data.numbers)


def subset(total: int, size: int | None, held_out: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Which examples of a split a spec trains on, and which it holds out.

    The first `size` and the last `held_out` of `RandomState(0).permutation(total)`: the same
    for every seed of a run, and a smaller subset is part of a larger one. A size of None is all
    that are not held out, as they stand.

    Raises:
      ValueError: if there are fewer than `size` and `held_out` examples together.
    """
    if held_out >= total or (size or 1) + held_out > total:
        raise ValueError(
            f"train_size is {size} and valid_size {held_out}, but the split has {total} "
            "examples; use fewer, or None as train_size for all that are not held out"
        )
    order = np.random.RandomState(_SUBSET_SEED).permutation(total)
    last = order[total - held_out :]
    return np.setdiff1d(np.arange(total), last) if size is None else order[:size], last


def open_split(spec: DataSpec, split: str) -> tuple[Source, np.ndarray]:
    """The source of a spec's "train", "valid" or "test" split, and the numbers of its examples.

    Raises:
      ValueError: if split is none of them, the source cannot be opened, or train_size and
        valid_size are more than it has.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS} (which the spec maps), not {split!r}")
    if split == "test":
        source = open_source(spec.name, spec.test_split)
        return source, np.arange(len(source))
    source = open_source(spec.name, spec.train_split)
    train, valid = subset(len(source), spec.train_size, spec.valid_size)
    return source, train if split == "train" else valid


def load(spec: DataSpec, split: str, *, max_bytes: int = IN_MEMORY_BYTES) -> Examples:
    """The examples of a split, decoded in memory if their inputs fit, else to be decoded.

    Args:
      spec: what to load.
      split: "train", "valid" (what is held out of it) or "test".
      max_bytes: the most that the float32 inputs of the split may take in memory.

    Raises:
      ValueError: as `open_split`.
    """
    source, numbers = open_split(spec, split)
    if len(numbers) * spec.image_size**2 * spec.channels * 4 > max_bytes:
        return Lazy(source, numbers)
    return _decoded(source, numbers, spec)


def load_arrays(spec: DataSpec, split: str) -> Arrays:
    """The examples of a split, decoded once and fitted to the spec's size and channels.

    Kept by the process, for the last few splits, by the source's fingerprint.

    Args:
      spec: what to load.
      split: "train" or "valid" (see `subset`), or "test".

    Returns:
      images uint8 [N, S, S, C] and labels, neither normalised nor shuffled.

    Raises:
      ValueError: as `open_split`, or an image that is not uint8 with 1 or 3 channels.
    """
    source, numbers = open_split(spec, split)
    return _decoded(source, numbers, spec)


def _decoded(source: Source, numbers: np.ndarray, spec: DataSpec) -> Arrays:
    key = (source.fingerprint, numbers.tobytes(), spec.image_size, spec.channels)
    if key not in _DECODED:
        while len(_DECODED) >= _KEPT:
            _DECODED.pop(next(iter(_DECODED)))
        _DECODED[key] = _decode(source, numbers, spec)
    return _DECODED[key]


def _decode(source: Source, numbers: np.ndarray, spec: DataSpec) -> Arrays:
    size, channels = spec.image_size, spec.channels
    if isinstance(source, ArraySource):
        images = fit(source.images[numbers], size, channels)
        labels = np.asarray(source.labels[numbers])
        labels = labels.astype(np.int32 if labels.ndim == 1 else np.float32)
    else:
        images = np.empty((len(numbers), size, size, channels), np.uint8)
        found = []
        for row, number in enumerate(numbers):
            example = source[int(number)]
            images[row] = fit(np.asarray(example["image"]), size, channels)
            found.append(_label(example["label"]))
        labels = np.stack(found) if found else np.zeros(0, np.int32)
    images.flags.writeable = labels.flags.writeable = False
    return Arrays(images, labels)


def _label(label: Any) -> np.ndarray:
    value = np.asarray(label)
    return value.astype(np.int32 if value.ndim == 0 else np.float32)


def data_key(spec: DataSpec, split: str) -> dict[str, Any]:
    """What evaluation on a split depends on, as JSON, for the key of a record.

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
        "image_size": spec.image_size,
        "channels": spec.channels,
        "mean": [float(x) for x in spec.mean],
        "std": [float(x) for x in spec.std],
        "shuffle": spec.shuffle,
        "shuffle_seed": 0 if spec.shuffle == "none" else spec.shuffle_seed,
    }
