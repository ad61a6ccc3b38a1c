"""The order of training examples: a pure function of (number of examples, seed, step).

Epoch e visits the N examples in the order
`numpy.random.RandomState([seed, e]).permutation(N)`; epochs follow one another without a
gap; step t takes positions t·B to (t + 1)·B - 1 of that sequence. numpy's RandomState is
frozen, so a run that continues under other versions sees the same data. (grain's shuffle
walks a 16-bit cycle for each element until it reaches a number below N: 0.3 ms an element for
a hundred examples.)
"""

import functools

import numpy as np


@functools.lru_cache(maxsize=4)
def epoch_order(total: int, seed: int, epoch: int) -> np.ndarray:
    """The order of one epoch: int32 [total], each of 0 to total - 1 once; not to be written to."""
    order = np.random.RandomState([seed, epoch]).permutation(total).astype(np.int32)
    order.flags.writeable = False
    return order


class Order:
    """`order[step]`: the numbers of the examples in this process's rows of a step's batch.

    Row r of process p is row r·P + p of the global batch, so the batches of all processes,
    interleaved, are that of one.

    Args:
      total: number of examples, N, 1 or more.
      batch_size: rows of the global batch, B.
      seed: 0 to 2³² - 1.
      process_index: p, 0 to P - 1.
      process_count: P, a divisor of B.

    Raises:
      ValueError: if a number is out of its range.
    """

    def __init__(
        self,
        total: int,
        batch_size: int,
        *,
        seed: int,
        process_index: int = 0,
        process_count: int = 1,
    ) -> None:
        if total < 1:
            raise ValueError("expected at least one example to train on, got none")
        if not 0 <= seed < 2**32:
            raise ValueError(f"expected a seed of 0 to 2**32 - 1, got {seed}")
        if not 0 <= process_index < process_count:
            raise ValueError(
                f"expected process_index of 0 to process_count - 1, got {process_index} of "
                f"{process_count}"
            )
        if batch_size < 1 or batch_size % process_count:
            raise ValueError(
                f"expected batch_size as a positive multiple of the {process_count} processes that "
                f"share a batch, got {batch_size}"
            )
        self.total, self.batch_size, self.seed = total, batch_size, seed
        self.process_index, self.process_count = process_index, process_count

    @property
    def rows(self) -> int:
        """The number of rows of a batch that are this process's, B / P."""
        return self.batch_size // self.process_count

    def __getitem__(self, step: int) -> np.ndarray:
        """Example numbers of this process in a step, int32 [B / P]."""
        first = step * self.batch_size + self.process_index
        positions = first + self.process_count * np.arange(self.rows, dtype=np.int64)
        epochs, places = np.divmod(positions, self.total)
        out = np.empty(self.rows, np.int32)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            here = epochs == epoch
            out[here] = epoch_order(self.total, self.seed, epoch)[places[here]]
        return out
