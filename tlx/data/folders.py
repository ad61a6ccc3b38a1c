"""Image files as sources: a folder by class, DomainNet's lists, arrays of numpy.

All are relative to one folder: what `DataSpec.folder` names, else $TLX_DATA_DIR/NAME.
"""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from tlx.data import identity
from tlx.data.sources import ArraySource, BadImage, Example

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""What counts as an image, in capitals too."""

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
    ) -> None:
        self.name, self.split, self.num_classes = name, split, num_classes
        self.class_names = class_names
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


def read_image(file: Path, mode: str = "RGB") -> np.ndarray:
    """The pixels of an image file: uint8 [H, W, 3], or [H, W, 1] for mode "L".

    Raises:
      BadImage: naming the file and what is wrong with it.
    """
    from PIL import Image

    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert(mode))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadImage(f"{file}: cannot be read as an image ({error})") from error
    return pixels[:, :, None] if mode == "L" else pixels


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


def open_folder(split: str, folder: str | None) -> ImageFiles:
    """`folder/SPLIT/CLASS/image.jpg`; the classes are those of the split "train", in order.

    Raises:
      ValueError: if there is no such split or class, or no image in it.
    """
    root = data_folder("folder", folder)
    splits = _folders(root)
    if split not in splits:
        found = ", ".join(splits[:_SHOWN]) or "no folders"
        raise ValueError(
            f"{root}: expected a folder {split!r} with one folder of images for each class, got "
            f"{found}; name the splits by data.train_split and data.test_split"
        )
    classes = _folders(root / ("train" if "train" in splits else split))
    strange = sorted(set(_folders(root / split)) - set(classes))
    if strange:
        raise ValueError(
            f"{root / split}: {len(strange)} classes that the training images lack: "
            f"{', '.join(strange[:_SHOWN])}; remove them, or add training images"
        )
    paths, labels = [], []
    for label, name in enumerate(classes):
        files = _images(root / split / name)
        paths += [f"{split}/{name}/{file}" for file in files]
        labels += [label] * len(files)
    if not paths:
        raise ValueError(
            f"{root / split}: expected images in one folder for each class, as "
            f"{split}/CLASS/image.jpg ({', '.join(SUFFIXES)}), got none"
        )
    return ImageFiles(
        "folder",
        split,
        folder=root,
        paths=paths,
        labels=np.asarray(labels, np.int32),
        num_classes=len(classes),
        class_names=tuple(classes),
    )


def open_domainnet(domain: str, split: str, folder: str | None) -> ImageFiles:
    """A domain of DomainNet by its official lists, `real_train.txt` and `real_test.txt`.

    A line is "real/airplane/real_002_000001.jpg 2". The folder holds the lists and the domain's
    folder; it is `data.folder`, else $TLX_DATA_DIR/domainnet.

    Raises:
      ValueError: if a list is not there, or a line is not of this form.

    References:
      X. Peng et al., Moment matching for multi-source domain adaptation, ICCV 2019.
    """
    root = data_folder("domainnet", folder)
    lists = {part: _read_list(root / f"{domain}_{part}.txt") for part in ("train", "test")}
    names: dict[int, str] = {}
    for path, label in (line for part in lists.values() for line in part):
        names.setdefault(label, Path(path).parent.name)
    num_classes = 1 + max(names)
    return ImageFiles(
        f"domainnet/{domain}",
        split,
        folder=root,
        paths=[path for path, _ in lists[split]],
        labels=np.asarray([label for _, label in lists[split]], np.int32),
        num_classes=num_classes,
        class_names=tuple(names.get(label, str(label)) for label in range(num_classes)),
    )


def _read_list(file: Path) -> list[tuple[str, int]]:
    if not file.is_file():
        raise ValueError(
            f"there is no {file}; download the domain's images and its two lists (the cleaned "
            "version) from the publishers of DomainNet into that folder"
        )
    found = []
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        path, _, label = line.rpartition(" ")
        if not path or not label.isdigit():
            raise ValueError(f"{file}:{number}: expected a path and a class number, got {line!r}")
        found.append((path, int(label)))
    if not found:
        raise ValueError(f"{file}: expected a line an image, got an empty file")
    return found


def open_arrays(split: str, folder: str | None) -> ArraySource:
    """`folder/SPLIT.npz` with `images` uint8 [N, H, W, C] or [N, H, W] and integer `labels`.

    Labels are [N], or 0/1 [N, classes]. The classes are counted over all files of the folder.

    Raises:
      ValueError: if the file or an array is not there, or of another form.
    """
    root = data_folder("numpy", folder)
    files = {file.stem: file for file in sorted(root.glob("*.npz"))}
    if split not in files:
        raise ValueError(
            f"{root}: expected a file {split}.npz with images and labels, got "
            f"{', '.join(f'{name}.npz' for name in files) or 'no npz files'}"
        )
    images, labels = _read_npz(files[split])
    every = [labels if name == split else _read_npz(file)[1] for name, file in files.items()]
    if labels.ndim == 2:
        num_classes = labels.shape[1]
    else:
        num_classes = 1 + max(int(part.max()) for part in every if part.size)
    return ArraySource("numpy", split, images, labels, num_classes)


def _read_npz(file: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as data:
            lacking = [name for name in ("images", "labels") if name not in data]
            if lacking:
                raise ValueError(f"lacks {' and '.join(lacking)}; it has {', '.join(data.files)}")
            images, labels = data["images"], data["labels"]
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{file}: expected arrays images (uint8) and labels, but: {error}"
        ) from error
    if not (np.issubdtype(labels.dtype, np.integer) or labels.ndim == 2):
        raise ValueError(f"{file}: expected integer labels, got {labels.dtype} {labels.shape}")
    return (images[..., None] if images.ndim == 3 else images), labels


def _folders(root: Path) -> list[str]:
    if not root.is_dir():
        return []
    with os.scandir(root) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _images(root: Path) -> list[str]:
    if not root.is_dir():
        return []
    with os.scandir(root) as entries:
        return sorted(
            e.name
            for e in entries
            if e.name.lower().endswith(SUFFIXES) and not e.name.startswith(".")
        )
