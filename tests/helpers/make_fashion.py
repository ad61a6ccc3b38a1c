"""Fashion-MNIST's four files, made up: random images of the right size, as few as are asked for."""

import gzip
from pathlib import Path

import numpy as np


def idx(array: np.ndarray) -> bytes:
    """The bytes of an IDX file, unpacked."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def write(folder: Path, num_train: int, num_test: int) -> dict[str, np.ndarray]:
    """Writes the files; returns the array of each. The labels go round the ten classes."""
    rng, arrays = np.random.default_rng(0), {}
    for part, num in (("train", num_train), ("t10k", num_test)):
        images = rng.integers(0, 256, (num, 28, 28)).astype(np.uint8)
        arrays[f"{part}-images-idx3-ubyte.gz"] = images
        arrays[f"{part}-labels-idx1-ubyte.gz"] = np.arange(num).astype(np.uint8) % 10
    for name, array in arrays.items():
        (folder / name).write_bytes(gzip.compress(idx(array)))
    return arrays
