"""The labelled data of an audit: a folder of images by class, or a file of arrays."""

import dataclasses
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tlx.core import streams
from tlx.data import examples, loader
from tlx.data.spec import DataSpec

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's images, by which most pretrained models normalise."""

MOST = 500
"""Examples that are looked at, unless more are asked for."""


class Data(NamedTuple):
    """Labelled examples.

    Attributes:
      stream: of batches.
      num_examples: N.
      classes: the names of a folder's classes, in the order of their numbers; () of arrays.
      note: what the user should know about them; "": nothing.
    """

    stream: Any
    num_examples: int
    classes: tuple[str, ...] = ()
    note: str = ""


def read(
    path: str,
    *,
    split: str | None = None,
    image_size: int = 224,
    mean: tuple[float, ...] = MEAN,
    std: tuple[float, ...] = STD,
    most: int = MOST,
    batch_size: int = 50,
) -> Data:
    """The labelled examples of a folder or a file.

    Args:
      path: a folder with a folder of images for each class (or one of splits, see `split`),
        numbered in the order of their names, or of those of a folder "train" beside it where there
        is one; or an .npz with `labels` and either `images` (uint8, made 0 … 1 and normalised) or
        `inputs`, which are given to the model as they are.
      split: the folder in it that has the classes; None: `path` itself, or "test" in it.
      image_size: to which images of a folder are cut and resized.
      mean: of the pixels, by channel, for images.
      std: likewise.
      most: examples, chosen by one fixed permutation.
      batch_size: rows of a batch.

    Raises:
      ValueError: in one sentence, for what is not there or not of this form.
    """
    if not os.path.exists(path):
        raise ValueError(f"--data: expected a folder of images or an .npz, got {path}: not there")
    if os.path.isdir(path):
        root = Path(path).resolve()
        if split is None and (root / "test").is_dir():
            split = "test"
        if split is None:
            root, split = root.parent, root.name
        if not (root / split).is_dir():
            raise ValueError(f"--split: expected a folder in {root}, got {split}: not there")
        spec = DataSpec(
            name="folder",
            folder=str(root),
            train_split="train" if (root / "train").is_dir() else split,
            test_split=split,
            test_size=None,
            image_size=image_size,
            channels=len(mean),
            mean=mean,
            std=std,
            batch_size=batch_size,
            eval_batch_size=batch_size,
        )
        count = int(loader.data_key(spec, "test")["count"])
        if count > most:
            spec, count = dataclasses.replace(spec, test_size=most), most
        source: Any = examples.open_split(spec, "test")[0]
        note = _note_of_sizes(source, image_size)
        return Data(loader.eval_stream(spec, "test"), count, source.class_names, note)
    return _of_arrays(path, mean, std, most, batch_size)


def _note_of_sizes(source: Any, size: int) -> str:
    try:
        shorter = min(source[0]["image"].shape[:2])
    except (OSError, ValueError):  # that it cannot be read is told when it is
        return ""
    if shorter >= size:
        return ""
    return (
        f"Images of {shorter} pixels were enlarged to {size}: give --size={shorter} if the models "
        "were trained on images of that size."
    )


def _of_arrays(
    path: str, mean: tuple[float, ...], std: tuple[float, ...], most: int, batch_size: int
) -> Data:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise ValueError(f"--data: {path} is no .npz of arrays: {error}") from error
    kinds = [name for name in ("images", "inputs") if name in arrays]
    if "labels" not in arrays or len(kinds) != 1:
        raise ValueError(
            f"--data: expected {path} to hold 'labels' and either 'images' or 'inputs', got "
            f"{', '.join(sorted(arrays)) or 'nothing'}"
        )
    inputs, labels = arrays[kinds[0]], arrays["labels"]
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != len(inputs):
        raise ValueError(
            f"--data: expected labels as class numbers, one an example ({len(inputs)}), got "
            f"{labels.dtype} {list(labels.shape)}"
        )
    if not len(labels):
        raise ValueError(f"--data: {path} holds no examples")
    chosen = np.sort(np.random.default_rng(0).permutation(len(labels))[:most])
    inputs, labels = inputs[chosen], labels[chosen].astype(np.int32)
    if kinds[0] == "images":
        if inputs.dtype != np.uint8 or inputs.ndim != 4 or inputs.shape[-1] != len(mean):
            raise ValueError(
                f"--data: expected images as uint8 [N, S, S, {len(mean)}], got {inputs.dtype} "
                f"{list(inputs.shape)}"
            )
        inputs = (inputs / np.float32(255) - np.array(mean, np.float32)) / np.array(std, np.float32)
    stream = streams.from_arrays(inputs, labels, batch_size=min(batch_size, len(labels)))
    return Data(stream, len(labels))
