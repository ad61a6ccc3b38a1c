"""Image files as a source, and their folder.

Paths are relative to one folder: what `DataSpec.folder` names, else $TLX_DATA_DIR/NAME.
"""

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from tlx.data import identity
from tlx.data.labelled import Example
from tlx.data.pixels import read_image


class ImageFiles:
    """Labelled image files, each decoded on demand.

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
            f"expected a folder for the source {name!r}, which reads files, got none; give "
            f"data.folder, or set TLX_DATA_DIR so that they are in $TLX_DATA_DIR/{name}"
        )
    found = Path(folder) if folder is not None else Path(root or "") / name
    if not found.is_dir():
        raise ValueError(
            f"expected a folder for the source {name!r}, but there is no {found}; put its files "
            "there, or name another by data.folder or TLX_DATA_DIR"
        )
    return found
