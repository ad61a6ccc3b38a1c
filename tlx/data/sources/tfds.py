"""Prepared tensorflow-datasets as sources, read by random access, without TensorFlow."""

import difflib
import hashlib
import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tlx.data import identity
from tlx.data.labelled import Example
from tlx.data.sources import chexpert, registry


class TfdsSource:
    """A prepared dataset; see `open_tfds`."""

    def __init__(self, name: str, split: str, data: Any) -> None:
        self.name = f"tfds/{name}"
        self.split = split
        self._data = data
        features = data.dataset_info.features
        self._marks: tuple[str, ...] = ()
        self.class_names: tuple[str, ...] | None
        if name.partition(":")[0] == "chexpert":
            self._image, self._label = "image", "label"
            self._marks = tuple(features["label"].feature.names)
            self.num_classes, self.class_names = len(chexpert.DISEASES), chexpert.DISEASES
        else:
            self._image, self._label = _keys(name, data.dataset_info)
            self.num_classes = int(features[self._label].num_classes)
            names = features[self._label].names
            self.class_names = tuple(names) if names else None

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the full name with version, the split, and its files' names and bytes.

        Of the examples of a part ("train[:80%]") it holds where in the files they are.
        """
        info = self._data.dataset_info
        pieces = info.splits[self.split].file_instructions if info.splits else ()
        files = [Path(os.fspath(piece.filename)) for piece in pieces]
        root = Path(os.path.commonpath([file.parent for file in files])) if files else Path()
        content = identity.of_files(root, [str(file.relative_to(root)) for file in files])
        parts: list[Any] = [
            [file.name, piece.skip, piece.take, digest]
            for file, piece, digest in zip(files, pieces, content, strict=True)
        ]
        if not parts:  # the library's mock data have no files
            examples = (self[index] for index in range(len(self)))
            parts = [
                [part.tobytes().hex() for part in map(np.asarray, e.values())] for e in examples
            ]
        form = [str(info.full_name), self.split, len(self), self.num_classes, self._marks]
        return hashlib.sha256(json.dumps([form, parts]).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int, /) -> Example:
        example = self._data[index]
        image = np.asarray(example[self._image])
        if self._marks:  # X-rays are grey, and tensorflow-datasets gives them three channels
            marks = [self._marks[int(value)] for value in example[self._label]]
            return {"image": image[:, :, :1], "label": chexpert.labels_of_all(marks)}
        return {"image": image, "label": int(example[self._label])}


def open_tfds(name: str, split: str) -> TfdsSource:
    """A split of a dataset that has been prepared as array_record or parquet.

    The folder is the environment variable TFDS_DATA_DIR, else ~/tensorflow_datasets.
    Nothing is downloaded and TensorFlow is not imported. The dataset must have one image
    and one class label: those of its supervised keys, else "image" and "label". "chexpert" has
    five labels by the rules of the source "chexpert", in the order of its files, not permuted.

    Args:
      name: as tensorflow-datasets takes it, "name[/config][:version]".
      split: as tensorflow-datasets takes it, "test" or "train[:80%]".

    Raises:
      ValueError: if the dataset is unknown, not prepared (with the command that prepares
        it), has no such split, or no image and class label.
    """
    import tensorflow_datasets as tfds

    # Read here and not at import, as the library does, so that it can be set in a notebook.
    folder = os.environ.get("TFDS_DATA_DIR")
    try:
        data = tfds.data_source(name, split=split, data_dir=folder, download=False)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            _unknown_dataset(name, tfds.list_builders(with_community_datasets=False))
        ) from error
    except (NotImplementedError, KeyError, FileNotFoundError) as error:
        # The library's message for a missing dataset depends on what is there instead
        # (no files, another format) and does not name the remedy.
        raise ValueError(_not_prepared(name, folder)) from error
    except (ValueError, AssertionError) as error:  # an unknown split; an unknown version
        raise ValueError(f"tfds/{name}, split {split!r}: {error}") from error
    return TfdsSource(name, split, data)


def _keys(name: str, info: Any) -> tuple[str, str]:
    import tensorflow_datasets as tfds

    keys = info.supervised_keys or ("image", "label")
    found: dict[str, Any] = {}
    if isinstance(info.features, tfds.features.FeaturesDict):
        found = dict(info.features.items())
    kinds = [type(found.get(key)).__name__ for key in keys]
    if kinds != ["Image", "ClassLabel"]:
        listed = ", ".join(f"{key} ({type(value).__name__})" for key, value in found.items())
        raise ValueError(
            f"tfds/{name}: expected one image and one class label (its supervised keys, or "
            f"'image' and 'label'), got {listed}; register a source that picks them "
            "(tlx.data.sources.register_source)"
        )
    return keys[0], keys[1]


def _unknown_dataset(name: str, names: list[str]) -> str:
    base = name.partition(":")[0].partition("/")[0]
    near = difflib.get_close_matches(base, names, n=3)
    hint = f"; did you mean {' or '.join(f'tfds/{n}' for n in near)}?" if near else "."
    return (
        f"tensorflow-datasets knows no dataset {base!r}, and none of that name is prepared in "
        f"its folder{hint}"
    )


def _not_prepared(name: str, folder: str | None) -> str:
    where = folder or "~/tensorflow_datasets"
    return (
        f"the dataset {name!r} is not prepared in {where} in a format with random access. "
        "Prepare it once, on a machine that may download it and has TensorFlow:\n"
        "  pip install tensorflow tensorflow-datasets\n"
        f"  tfds build {name} --file_format=array_record --data_dir={where}\n"
        "then set TFDS_DATA_DIR to that folder wherever it is read; reading needs no TensorFlow."
    )


registry.register(
    "tfds/",
    registry.Reader(
        lambda request: open_tfds(request.name.removeprefix("tfds/"), request.split),
        lacks=registry.needs("tensorflow_datasets", "tfds"),
        reads_files=True,
    ),
)
