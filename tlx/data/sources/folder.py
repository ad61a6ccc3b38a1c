"""A folder of images for each split and class; the splits are the names of its folders."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tlx.data import listing
from tlx.data.image_files import ImageFiles, data_folder
from tlx.data.pixels import shown
from tlx.data.sources import registry

_SHOWN = 5  # names in a message


def open_folder(split: str, folder: str | None, train_split: str | None = None) -> ImageFiles:
    """`folder/SPLIT/CLASS/…/image.jpg`; the classes are those of the training split, in order.

    An image is what Pillow reads by the ending of its name, at any depth below its class. A class
    is a folder that holds one. What is neither is counted, by reason, as `left_out`. A split may
    lack a class of the training split: the numbers of the others stay.

    Args:
      split: the name of a folder.
      folder: that it is in.
      train_split: the name of that with the training images. None: "train", or the only one
        whose name begins so, or `split` where all have the same classes.

    Raises:
      ValueError: if there is no such split or class, no image in it, a class that the training
        images lack, or a folder cannot be read.
    """
    root = data_folder("folder", folder)
    splits = listing.folders(root)
    for wanted in (split, train_split or split):
        if wanted not in splits:
            found = ", ".join(map(shown, splits[:_SHOWN])) or "no folders"
            raise ValueError(
                f"{shown(root)}: expected a folder {wanted!r} with one folder of images for each "
                f"class, got {found}; name the splits by data.train_split and data.test_split"
            )
    training = train_split or _training(root, split, splits)
    classes = list(listing.classes(root / training))
    own = classes if training == split else list(listing.classes(root / split))
    strange = sorted(set(own) - set(classes))
    if strange:
        raise ValueError(
            f"{shown(root / split)}: expected classes of the training images in {training!r}, got "
            f"{len(strange)} others: {', '.join(map(shown, strange[:_SHOWN]))}; remove them, or "
            "add training images"
        )
    left_out = listing.LeftOut()
    listing.left_outside(root / split, left_out, dict.fromkeys(own))
    paths, labels = [], []
    for label, name in enumerate(classes):
        listing.require_utf8(root, name)
        files = list(listing.images(root, f"{split}/{name}", left_out)) if name in own else []
        paths += files
        labels += [label] * len(files)
    if not paths:
        raise ValueError(
            f"{shown(root / split)}: expected images in one folder for each class, as "
            f"{split}/CLASS/image.jpg, got none" + _told(left_out)
        )
    return ImageFiles(
        "folder",
        split,
        folder=root,
        paths=paths,
        labels=np.asarray(labels, np.int32),
        num_classes=len(classes),
        class_names=tuple(classes),
        left_out=left_out,
    )


def _told(left_out: listing.LeftOut) -> str:
    return f" (left out: {listing.in_words(left_out)})" if left_out else ""


def _training(root: Path, split: str, splits: Sequence[str]) -> str:
    """The split whose classes count, where nobody named it."""
    if "train" in splits:
        return "train"
    so_called = [name for name in splits if name.lower().startswith("train")]
    if len(so_called) == 1:
        return so_called[0]
    own = set(listing.classes(root / split))
    others = {name: set(listing.classes(root / name)) for name in splits}
    differ = [name for name, found in others.items() if found and found != own]
    if differ:
        raise ValueError(
            f"{shown(root)}: expected splits with the same classes, got different ones in "
            f"{split!r} and {differ[0]!r}; name that of the training images by data.train_split"
        )
    return split


registry.register(
    "folder",
    registry.Reader(
        lambda request: open_folder(request.split, request.folder, request.train_split),
        lacks=registry.needs("PIL", "images"),
        reads_files=True,
    ),
)
