"""Streams: replayable finite passes over data, in batches of one constant shape."""

import itertools
import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlx.core.types import Batch, Stream


@dataclass(frozen=True, eq=False)
class ArrayStream:
    """A stream over arrays in memory; see `from_arrays`."""

    arrays: Mapping[str, Any]
    batch_size: int

    @property
    def num_examples(self) -> int:
        """The number of examples, N."""
        return len(self.arrays["inputs"])

    @property
    def num_batches(self) -> int:
        """The number of batches in a pass: N / batch_size, rounded up."""
        return -(-self.num_examples // self.batch_size)

    def __call__(self) -> Iterator[Batch]:
        """Starts a pass."""
        for start in range(0, self.num_examples, self.batch_size):
            rows = {name: array[start : start + self.batch_size] for name, array in self._items()}
            index = np.arange(start, start + len(rows["inputs"]), dtype=np.int32)
            yield pad_batch({**rows, "index": index}, self.batch_size)

    def _items(self) -> Iterator[tuple[str, Any]]:
        yield from self.arrays.items()


def from_arrays(inputs: Any, labels: Any = None, *, batch_size: int) -> ArrayStream:
    """A stream over arrays in memory, in their order, the last batch padded.

    Args:
      inputs: [N, ...] array (numpy, or anything that slices along its first axis).
      labels: [N, ...] array, or None for a stream without labels.
      batch_size: rows in each batch, B.

    Returns:
      A stream of batches with `inputs` [B, ...], `labels` [B, ...] if given, `mask` bool [B]
      and `index` int32 [B]; its `num_examples` is N. No data, no batches.

    Raises:
      ValueError: if batch_size is not positive or the lengths differ.
    """
    if batch_size < 1:
        raise ValueError(f"expected batch_size of at least 1, got {batch_size}")
    if labels is not None and len(labels) != len(inputs):
        raise ValueError(
            f"expected one label for each input, got {len(inputs)} inputs and {len(labels)} labels"
        )
    arrays = {"inputs": inputs} if labels is None else {"inputs": inputs, "labels": labels}
    return ArrayStream(arrays, batch_size)


def pad_batch(batch: Batch, size: int) -> dict[str, Any]:
    """The batch with `size` rows: zero rows are added, with mask False.

    `index`, where present, is continued into the padding with the largest int32, which no
    example has. A batch without `mask` gets one.

    Raises:
      ValueError: if the batch has more than `size` rows.
    """
    rows = len(batch["inputs"])
    if rows > size:
        raise ValueError(f"expected a batch of at most {size} rows, got {rows}")
    out = dict(batch)
    out.setdefault("mask", np.ones(rows, bool))
    if rows == size:
        return out
    for name, array in out.items():
        fill = np.iinfo(np.int32).max if name == "index" else 0
        array = np.asarray(array)
        padding = np.full((size - rows, *array.shape[1:]), fill, array.dtype)
        out[name] = np.concatenate([array, padding])
    return out


def peek(stream: Stream) -> tuple[Batch | None, Stream]:
    """The first batch (None if there is none), and the stream with that pass still to come.

    For what needs to know the shapes before it reads: nothing is read twice.
    """
    started = iter(stream())
    first = next(started, None)
    if first is None:
        return None, stream
    pending = [itertools.chain([first], started)]

    def resumed() -> Iterator[Batch]:
        return iter(pending.pop()) if pending else stream()

    return first, resumed


def prefetch(stream: Stream, size: int = 2) -> Stream:
    """The same stream, read ahead by up to `size` batches in a thread.

    For streams that decode or read files. An error in the stream is raised where the
    batch would have come; leaving a pass early ends its thread.
    """
    if size < 1:
        raise ValueError(f"expected a prefetch size of at least 1, got {size}")

    def start() -> Iterator[Batch]:
        ready: queue.Queue[tuple[str, Any]] = queue.Queue(size)
        stop = threading.Event()

        def put(item: tuple[str, Any]) -> bool:
            while not stop.is_set():
                try:
                    ready.put(item, timeout=0.1)
                    return True
                except queue.Full:
                    continue
            return False

        def read() -> None:
            try:
                for batch in stream():
                    if not put(("batch", batch)):
                        return
                put(("end", None))
            except BaseException as error:  # handed to the reader, whatever it is
                put(("error", error))

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        try:
            while (item := ready.get())[0] == "batch":
                yield item[1]
            if item[0] == "error":
                raise item[1]
        finally:
            stop.set()
            thread.join()

    return start
