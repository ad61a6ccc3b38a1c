"""Preparing data sets in tensorflow-datasets' form, without TensorFlow where the files are here."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tlx.data import sources

WITHOUT_TENSORFLOW = ("fashion_mnist",)
"""The data sets that `prepare` writes: those whose files another package brings."""


def data_dir() -> Path:
    """Where prepared data sets are: TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def prepare(name: str) -> Path:
    """The folder of a data set, prepared as array_record for any reader of tensorflow-datasets.

    Args:
      name: one of `WITHOUT_TENSORFLOW`, as tensorflow-datasets calls it.

    Returns:
      Its folder. It is written under another name and renamed when complete; an existing one stays.

    Raises:
      ValueError: for another data set, with the commands that prepare it; or if the files that it
        is made from are not there.
    """
    name = name.removeprefix("tfds/")
    if name not in WITHOUT_TENSORFLOW:
        raise ValueError(instructions(name))
    problem = sources.lacking(name) or sources.lacking(f"tfds/{name}")
    if problem:
        raise ValueError(problem)
    builder = _fashion_mnist()(data_dir=data_dir(), file_format="array_record")
    builder.download_and_prepare()
    return Path(builder.data_path)


def instructions(name: str) -> str:
    """How a data set is prepared that `prepare` does not write."""
    manual = {
        "imagenet2012": "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar (of image-net.org) in "
        "{folder}/downloads/manual; the folders of images themselves can be read as they are by "
        "the source 'folder'",
        "chexpert": "CheXpert-v1.0-small in {folder}/downloads/manual; it can be read as it is by "
        "the source 'chexpert'",
    }
    place = str(data_dir())
    first = manual.get(name.partition("/")[0].partition(":")[0])
    before = f"First put {first.format(folder=place)}.\n" if first else ""
    return (
        f"tlx does not prepare {name!r} itself (only {', '.join(WITHOUT_TENSORFLOW)}): its builder "
        f"needs TensorFlow. {before}Once, on a machine that may download it:\n"
        "  pip install tensorflow tensorflow-datasets\n"
        f"  tfds build {name} --file_format=array_record --data_dir={place}\n"
        f"then data.name 'tfds/{name}' reads it from TFDS_DATA_DIR without TensorFlow."
    )


def _fashion_mnist() -> Any:
    """The library's builder, which reads the files of the source "fashion_mnist"."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    # Before the registration is off: the library imports all its image builders at this name.
    official = tfds.image_classification.FashionMNIST
    with registered.skip_registration():

        class FashionMNIST(official):  # type: ignore[misc, valid-type]
            name = "fashion_mnist"

            def _split_generators(self, _: Any) -> dict[str, Any]:
                return {split: self._generate_examples(split) for split in ("train", "test")}

            def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
                source = sources.open_source("fashion_mnist", split)
                for index in range(len(source)):
                    example = source[index]
                    # a file, since the library encodes arrays by TensorFlow
                    image = _png(np.asarray(example["image"]))
                    yield index, {"image": image, "label": int(example["label"])}

    return FashionMNIST


def _png(image: np.ndarray) -> io.BytesIO:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image[:, :, 0]).save(file, "PNG")
    file.seek(0)
    return file
