"""CheXpert as the paper uses it: five diseases, a permuted list, positives twice.

The folder is CheXpert-v1.0 or CheXpert-v1.0-small with its train.csv and valid.csv.

- Five labels: cardiomegaly, edema, consolidation, atelectasis, pleural effusion.
- A mark of -1, uncertain, is 1 for edema and atelectasis and 0 for the others; blank is 0.
- The lines of train.csv are permuted by `RandomState(1234).permutation`. Splits are parts of
  that order: "train", "train[:50000]", "train[50000:100000]". Images of one patient can be in
  two of them. "valid" is valid.csv as it stands.
- "train[:50000]+doubled" has images with cardiomegaly or consolidation twice, one after the
  other.

References:
  J. Irvin et al., CheXpert: a large chest radiograph dataset with uncertainty labels and expert
  comparison, AAAI 2019. B. Neyshabur et al., What is being transferred in transfer learning?,
  NeurIPS 2020, and its code.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tlx.data import lists
from tlx.data.image_files import ImageFiles, data_folder
from tlx.data.sources import registry

DISEASES = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")
UNCERTAIN = (0.0, 1.0, 0.0, 1.0, 0.0)
"""What a mark of -1 counts as."""

DOUBLED = (0, 2)
"""The diseases whose images "+doubled" has twice."""

OBSERVATIONS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
"""All that the lists have, in their order."""

_ORDER_SEED = 1234
_SPLIT = re.compile(r"(train|valid)(?:\[(\d*):(\d*)\])?(\+doubled)?")
_MARKS = {"": 0.0, "0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0}
_UNSURE = ("-1", "-1.0")


def split_problem(split: str) -> str | None:
    """What is wrong with the name of a split; None if nothing."""
    if _SPLIT.fullmatch(split):
        return None
    return f"expected a split as 'train[:50000]', 'train[:50000]+doubled' or 'valid', got {split!r}"


def open_chexpert(split: str, folder: str | None) -> ImageFiles:
    """The grey images of a split with 0/1 labels [5].

    Raises:
      ValueError: if a file or column is not there, a line has another number of cells than the
        first or an image of another line, or a mark is not 1, 0, -1 or blank; by file and line.
    """
    found = _SPLIT.fullmatch(split)
    if found is None:
        raise ValueError(split_problem(split))
    root = data_folder("chexpert", folder)
    part, first, last, doubled = found.groups()
    paths, labels = _read(root, part)
    total = len(paths)
    order = np.random.RandomState(_ORDER_SEED).permutation(total) if part == "train" else None
    numbers = np.arange(total) if order is None else order
    numbers = numbers[int(first or 0) : int(last) if last else total]
    if last and int(last) > total:
        raise ValueError(
            f"expected at least the images of {split!r}, got {total} in {root / part}.csv"
        )
    if doubled:
        is_rare = labels[numbers][:, DOUBLED].any(axis=1)
        numbers = np.repeat(numbers, np.where(is_rare, 2, 1))
    if not len(numbers):
        raise ValueError(f"expected images in {split!r}, got none of {total} in {root / part}.csv")
    return ImageFiles(
        "chexpert",
        split,
        folder=root,
        paths=[paths[number] for number in numbers],
        labels=labels[numbers],
        num_classes=len(DISEASES),
        mode="L",
        class_names=DISEASES,
    )


def labels_of_all(marks: Sequence[str]) -> np.ndarray:
    """The five labels of an image from the words for all its observations.

    Args:
      marks: "positive", "negative", "uncertain" or "unmentioned", one for each of
        `OBSERVATIONS`, as tensorflow-datasets writes them.

    Returns:
      float32 [5], 0 or 1.

    Raises:
      ValueError: if there are not as many.
    """
    if len(marks) != len(OBSERVATIONS):
        raise ValueError(
            f"expected {len(OBSERVATIONS)} observations of an X-ray, got {len(marks)}; was the "
            "dataset prepared from CheXpert's lists?"
        )
    found = []
    for disease, uncertain in zip(DISEASES, UNCERTAIN, strict=True):
        mark = marks[OBSERVATIONS.index(disease)]
        found.append(uncertain if mark == "uncertain" else float(mark == "positive"))
    return np.array(found, np.float32)


def _read(root: Path, part: str) -> tuple[list[str], np.ndarray]:
    file = root / f"{part}.csv"
    if not file.is_file():
        raise ValueError(
            f"expected the folder of CheXpert-v1.0-small, but there is no {file} (ask its "
            "publishers, Stanford, for access)"
        )
    paths: dict[str, int] = {}
    rows = []
    for number, (path, *marks) in lists.table(file, ("Path", *DISEASES)):
        image = _below(lists.relative(file, number, path))
        if image in paths:
            raise ValueError(
                f"{file}:{number}: expected each image once, got {image} also in line "
                f"{paths[image]}; remove one of the lines"
            )
        paths[image] = number
        rows.append([_mark(file, number, text, i) for i, text in enumerate(marks)])
    return list(paths), np.asarray(rows, np.float32).reshape(-1, len(DISEASES))


def _below(path: str) -> str:
    """The list's "CheXpert-v1.0-small/train/…" below the folder, whatever that is called."""
    first, _, rest = path.partition("/")
    return rest if first.startswith("CheXpert") and rest else path


def _mark(file: Path, number: int, text: str, disease: int) -> float:
    if text in _UNSURE:
        return UNCERTAIN[disease]
    if text not in _MARKS:
        raise ValueError(
            f"{file}:{number}: expected 1, 0, -1 or nothing for {DISEASES[disease]}, got {text!r}"
        )
    return _MARKS[text]


registry.register(
    "chexpert",
    registry.Reader(
        lambda request: open_chexpert(request.split, request.folder),
        split_problem=split_problem,
        lacks=registry.needs("PIL", "images"),
        reads_files=True,
    ),
)
