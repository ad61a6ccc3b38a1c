"""scikit-learn's 1,797 digits: 8×8 grey, 10 classes.

100 images of each class are for training (1,000), the other 797 for testing (74 to 83 a class);
see `tlx.data.stratified`. The digits of a writer can be in both parts, because scikit-learn's copy
does not say who wrote which.
"""

import functools
import importlib.util
from pathlib import Path

import numpy as np

from tlx.data.labelled import ArraySource
from tlx.data.sources import registry
from tlx.data.stratified import stratified_split


@functools.cache
def digits(split: str) -> ArraySource:
    """scikit-learn's 1,797 digits: uint8 8×8×1, 10 classes.

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
    assert package is not None  # the registry has looked
    assert package.origin is not None
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if file.exists():
        table = np.loadtxt(file, delimiter=",")
        return table[:, :-1], table[:, -1]
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.data, data.target


registry.register(
    "digits",
    registry.Reader(
        lambda request: digits(request.split),
        splits=("train", "test"),
        lacks=registry.needs("sklearn", "demo"),
    ),
)
