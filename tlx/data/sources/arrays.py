"""Arrays of numpy as a source: `SPLIT.npz` with images and labels."""

from pathlib import Path

import numpy as np

from tlx.data.image_files import data_folder
from tlx.data.labelled import ArraySource
from tlx.data.pixels import shown
from tlx.data.sources import registry


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
    images, labels = _read(files[split])
    every = [labels if name == split else _read(file)[1] for name, file in files.items()]
    forms = {(part.ndim, *part.shape[1:]) for part in every}
    if len(forms) > 1:
        raise ValueError(
            f"{root}: expected labels [N] in all files, or [N, C] with one C, got "
            + ", ".join(f"{n}.npz {list(x.shape)}" for n, x in zip(files, every, strict=True))
        )
    num_classes = labels.shape[1] if labels.ndim == 2 else 1 + max(int(x.max()) for x in every)
    return ArraySource("numpy", split, images, labels, num_classes)


def _read(file: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        images, labels = _arrays(file)
    except Exception as error:  # zip files and headers that are cut or false raise many kinds
        what = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{shown(file)}: expected arrays images (uint8) and labels, got {what}"
        ) from error
    is_column = labels.ndim == 2 and labels.shape[1] == 1 and not np.isin(labels, (0, 1)).all()
    is_classes = labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer)
    if is_column or not (is_classes or (labels.ndim == 2 and labels.dtype.kind in "biuf")):
        raise ValueError(
            f"{shown(file)}: expected integer labels [N], or [N, C] of 0 and 1, got "
            f"{labels.dtype} {list(labels.shape)}"
            + ("; save labels[:, 0] if these are class numbers" if is_column else "")
        )
    if not len(labels) or not images.size:
        raise ValueError(f"{shown(file)}: expected at least one image, got {list(images.shape)}")
    return (images[..., None] if images.ndim == 3 else images), labels


def _arrays(file: Path) -> tuple[np.ndarray, np.ndarray]:
    with file.open("rb") as opened:  # not by name: numpy leaves a broken file open
        data = np.load(opened, allow_pickle=False)
        if not isinstance(data, np.lib.npyio.NpzFile):
            raise ValueError("one array; save both with numpy.savez")
        lacking = [name for name in ("images", "labels") if name not in data]
        if lacking:
            raise ValueError(f"{', '.join(data.files)} without {' and '.join(lacking)}")
        return data["images"], data["labels"]


registry.register(
    "numpy",
    registry.Reader(lambda request: open_arrays(request.split, request.folder), reads_files=True),
)
