"""Image files as sources, and a folder of them by class.

Paths are relative to one folder: what `DataSpec.folder` names, else $TLX_DATA_DIR/NAME.
"""

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from tlx.data import identity, listing
from tlx.data.pixels import read_image, shown
from tlx.data.sources import Example

_SHOWN = 5  # names in a message


class ImageFiles:
    """Labelled image files, each decoded when it is asked for.

    Args:
      name: of the source.
      split: of this part.
      folder: that the paths are relative to.
      paths: of the files, one an example.
      labels: int [N], or float 0/1 [N, classes].
      num_classes: C.
      mode: "RGB", or "L" for grey.
      class_names: of the classes, if they have names.
      left_out: paths of what is in the folder and not among the examples, by reason.
    """

    def __init__(
        self,
        name: str,
        split: str,
        *,
        folder: Path,
        paths: Sequence[str],
        labels: np.ndarray,
        num_classes: int,
        mode: str = "RGB",
        class_names: tuple[str, ...] | None = None,
        left_out: Mapping[str, list[str]] | None = None,
    ) -> None:
        self.name, self.split, self.num_classes = name, split, num_classes
        self.class_names = class_names
        self.left_out = left_out or {}
        self._folder, self._paths, self._labels, self._mode = folder, paths, labels, mode

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of relative paths, labels and the files' bytes (see `tlx.data.identity`)."""
        return identity.of_examples(
            self._folder,
            self._paths,
            self._labels,
            mode=self._mode,
            num_classes=self.num_classes,
        )

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int, /) -> Example:
        """Example `index`.

        Raises:
          BadImage: if its file is not there or cannot be decoded.
        """
        file = self._folder / self._paths[index]
        return {"image": read_image(file, self._mode), "label": self._labels[index]}


def data_folder(name: str, folder: str | None) -> Path:
    """Where the files of a source are: the folder that is named, else $TLX_DATA_DIR/NAME.

    Raises:
      ValueError: if neither is there.
    """
    root = os.environ.get("TLX_DATA_DIR")
    if folder is None and root is None:
        raise ValueError(
            f"the source {name!r} reads files: give data.folder, or set TLX_DATA_DIR so that they "
            f"are in $TLX_DATA_DIR/{name}"
        )
    found = Path(folder) if folder is not None else Path(root or "") / name
    if not found.is_dir():
        raise ValueError(
            f"the source {name!r}: there is no folder {found}; put its files there, or name "
            "another by data.folder or TLX_DATA_DIR"
        )
    return found


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
            f"{shown(root / split)}: {len(strange)} classes that the training images in "
            f"{training!r} lack: {', '.join(map(shown, strange[:_SHOWN]))}; remove them, or add "
            "training images"
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
            f"{shown(root)}: the splits {split!r} and {differ[0]!r} have other classes, and "
            "which of them has the training images is not said; name it by data.train_split"
        )
    return split
