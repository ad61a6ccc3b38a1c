"""A fixed split of examples with equally many of each class in training."""

import numpy as np

_SPLIT_SEED = 0


def stratified_split(labels: np.ndarray, per_class: int) -> dict[str, np.ndarray]:
    """The numbers of the training and test examples, equally many of each class to train on.

    The numbers of the examples are permuted by `numpy.random.RandomState(0).permutation`; the first
    of each class are for training, the rest for testing, and both keep the permuted order.

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
