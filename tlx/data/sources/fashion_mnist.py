"""Fashion-MNIST: articles of Zalando, 28×28 grey, 10 classes (MIT licence).

The publishers' split, 60,000 for training and 10,000 for testing. The files are those of
Debian's package dataset-fashion-mnist, or in the folder that the environment variable
TLX_FASHION_MNIST names.

Reference: H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking
machine learning algorithms, 2017.
"""

import functools
import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np

from tlx.data import identity
from tlx.data.labelled import ArraySource
from tlx.data.sources import registry

_FASHION_FOLDER = "/usr/share/datasets/fashion-mnist"  # where the package puts them
_FASHION_FILES = {
    split: (f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz")
    for split, part in (("train", "train"), ("test", "t10k"))
}
_FASHION_REMEDY = (
    "run: apt-get install --reinstall dataset-fashion-mnist (a package of Debian), or set the "
    "environment variable TLX_FASHION_MNIST to a folder with the four files of Fashion-MNIST"
)


def fashion_mnist(split: str) -> ArraySource:
    """Fashion-MNIST: uint8 28×28×1, 10 classes, in the order of its files.

    Raises:
      ValueError: if a file is not what it should be, with the command that helps.
    """
    folder, files = _fashion_folder(), _FASHION_FILES[split]
    return _fashion_mnist(folder, split, tuple(identity.of_files(folder, files)))


def fashion_mnist_lacks() -> str | None:
    """Which files of Fashion-MNIST are not there, with the command that helps; None if none."""
    folder = _fashion_folder()
    files = [name for names in _FASHION_FILES.values() for name in names]
    absent = [name for name in files if not (folder / name).is_file()]
    if not absent:
        return None
    return f"the source 'fashion_mnist' needs {', '.join(absent)} in {folder}; {_FASHION_REMEDY}"


def _fashion_folder() -> Path:
    return Path(os.environ.get("TLX_FASHION_MNIST") or _FASHION_FOLDER)


@functools.lru_cache(maxsize=2)  # a train and a test split
def _fashion_mnist(folder: Path, split: str, _content: tuple[str, ...]) -> ArraySource:
    images, labels = (folder / name for name in _FASHION_FILES[split])
    pixels, classes = read_idx(images, 3), read_idx(labels, 1)
    if pixels.shape != (len(classes), 28, 28):
        raise ValueError(
            f"{images}: expected [{len(classes)}, 28, 28] for the labels in {labels.name}, got "
            f"{list(pixels.shape)}; {_FASHION_REMEDY}"
        )
    return ArraySource("fashion_mnist", split, pixels[..., None], classes.astype(np.int32), 10)


def read_idx(file: Path, num_axes: int) -> np.ndarray:
    """The array uint8 of a gzipped IDX file.

    It is 0, 0, 8 (for uint8), the number of axes, their lengths as big-endian uint32, and then
    the values in row-major order.

    Raises:
      ValueError: naming the file, if it is damaged or holds something else.
    """
    try:
        data = gzip.decompress(file.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(
            f"{file}: expected a gzip file, got a broken one ({error}); {_FASHION_REMEDY}"
        ) from error
    start, begins = 4 + 4 * num_axes, bytes([0, 0, 8, num_axes])
    if data[:4] != begins or len(data) < start:
        raise ValueError(
            f"{file}: expected an IDX file of uint8 with {num_axes} axes, which starts with "
            f"{begins.hex()}, got {len(data)} bytes from {data[:4].hex()} on; {_FASHION_REMEDY}"
        )
    shape = tuple(int(length) for length in np.frombuffer(data[4:start], ">u4"))
    if len(data) - start != math.prod(shape):
        raise ValueError(
            f"{file}: expected {math.prod(shape)} values for the shape {list(shape)}, got "
            f"{len(data) - start}; {_FASHION_REMEDY}"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


registry.register(
    "fashion_mnist",
    registry.Reader(
        lambda request: fashion_mnist(request.split),
        splits=("train", "test"),
        lacks=lambda name: fashion_mnist_lacks(),
    ),
)
