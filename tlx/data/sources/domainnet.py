"""DomainNet by its official lists.

References:
  X. Peng et al., Moment matching for multi-source domain adaptation, ICCV 2019.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from tlx.data import lists
from tlx.data.image_files import ImageFiles, data_folder
from tlx.data.sources import registry

CLASSES = 345
"""Of all domains."""


DOMAINS = ("real", "clipart", "quickdraw", "sketch", "painting", "infograph")
"""The domains of DomainNet."""


class _Line(NamedTuple):
    path: str
    label: int
    where: str


def open_domainnet(domain: str, split: str, folder: str | None) -> ImageFiles:
    """A domain of DomainNet by its official lists, `real_train.txt` and `real_test.txt`.

    A line is "real/airplane/real_002_000001.jpg 2". The folder holds the lists and the domain's
    folder; it is `data.folder`, else $TLX_DATA_DIR/domainnet.

    Raises:
      ValueError: if a list is not there, a line is not of this form, or the lists number a class
        in two ways; by file and line.
    """
    root = data_folder("domainnet", folder)
    found = {part: _read(root / f"{domain}_{part}.txt") for part in ("train", "test")}
    names = _names([line for part in found.values() for line in part])
    num_classes = 1 + max(names)
    return ImageFiles(
        f"domainnet/{domain}",
        split,
        folder=root,
        paths=[line.path for line in found[split]],
        labels=np.asarray([line.label for line in found[split]], np.int32),
        num_classes=num_classes,
        class_names=tuple(names.get(label, str(label)) for label in range(num_classes)),
    )


def _read(file: Path) -> list[_Line]:
    if not file.is_file():
        raise ValueError(
            f"expected the lists of DomainNet, but there is no {file}; download the "
            "domain's images and its two lists (the cleaned version) from its publishers into that "
            "folder"
        )
    found = []
    for number, line in lists.lines(file):
        path, _, label = line.rstrip().rpartition(" ")
        if not path or not (label.isascii() and label.isdigit()):
            raise ValueError(f"{file}:{number}: expected a path and a class number, got {line!r}")
        path = lists.relative(file, number, path)
        if len(label) > 9 or int(label) >= CLASSES or not Path(path).parent.name:
            raise ValueError(
                f"{file}:{number}: expected DOMAIN/CLASS/IMAGE and a class number below {CLASSES}, "
                f"got {line!r}"
            )
        found.append(_Line(path, int(label), f"{file}:{number}"))
    if not found:
        raise ValueError(f"{file}: expected a line an image, got an empty file")
    return found


def _names(found: list[_Line]) -> dict[int, str]:
    """The name of each class number, the same in all lines."""
    by_number: dict[int, _Line] = {}
    by_name: dict[str, _Line] = {}
    for line in found:
        name = Path(line.path).parent.name
        for first in (by_number.setdefault(line.label, line), by_name.setdefault(name, line)):
            other = Path(first.path).parent.name
            if (other, first.label) != (name, line.label):
                raise ValueError(
                    f"{line.where}: expected one number for each class, got {line.label} for "
                    f"{name!r} and {first.label} for {other!r} in {first.where}; is a line cut "
                    "off?"
                )
    return {label: Path(line.path).parent.name for label, line in by_number.items()}


for _domain in DOMAINS:
    registry.register(
        f"domainnet/{_domain}",
        registry.Reader(
            lambda request: open_domainnet(
                request.name.removeprefix("domainnet/"), request.split, request.folder
            ),
            splits=("train", "test"),
            lacks=registry.needs("PIL", "images"),
            reads_files=True,
        ),
    )
