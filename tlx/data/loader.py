"""Evaluation streams and training batches.

The order of training examples is a pure function of (seed, step), see tlx.data.order. So a
run that was stopped continues with the batches it would have had, and several processes
together see the same as one. Data that fit in memory are decoded once and gathered by batch;
larger data, and data with random augmentations of the decoded image, are decoded by item in
grain's threads, in the same order.
"""

import dataclasses
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from tlx.core import streams
from tlx.core.types import Batch, Stream
from tlx.data.examples import (
    IN_MEMORY_BYTES,
    Arrays,
    Examples,
    Lazy,
    data_key,
    load,
    load_arrays,
    num_examples,
)
from tlx.data.lazy import THREADS
from tlx.data.order import Order
from tlx.data.spec import DataSpec
from tlx.data.transform import apply, transform

__all__ = [
    "IN_MEMORY_BYTES",
    "Arrays",
    "Examples",
    "Lazy",
    "data_key",
    "eval_stream",
    "load",
    "load_arrays",
    "num_examples",
    "train_batches",
]


def eval_stream(spec: DataSpec, split: str, *, data: Examples | None = None) -> Stream:
    """A replayable pass over a split: normalised, shuffled, not augmented, in fixed order.

    Args:
      spec: what to read; batches have spec.eval_batch_size rows, the last one padded.
      split: "train" or "test".
      data: examples from `load`; None loads them.

    Returns:
      a stream of batches with `inputs` float32 [B, S, S, C], `labels`, `mask` and `index`.
      Where the data fit in memory it is `tlx.core.streams.from_arrays` of them, with
      `num_examples`. `index` is the number of the example among those of the split that the spec
      chooses, however they are read; the mask is False where an image cannot be read.

    Raises:
      ValueError: as `load`.
    """
    data = load(spec, split) if data is None else data
    size = spec.eval_batch_size
    if isinstance(data, Arrays):
        whole = streams.from_arrays(apply(spec, data.images), data.labels, batch_size=size)
        if data.mask is None:
            return whole
        return dataclasses.replace(whole, arrays={**whole.arrays, "mask": data.mask})
    lazy = data

    def start() -> Iterator[Batch]:
        for first in range(0, num_examples(lazy), size):
            rows = range(first, min(first + size, num_examples(lazy)))
            items = list(lazy.decode_all(rows, spec))
            batch = {name: np.stack([item[name] for item in items]) for name in items[0]}
            batch["inputs"] = apply(spec, batch.pop("images"))
            yield streams.pad_batch(batch, size)

    return streams.prefetch(start)


def train_batches(
    data: Examples,
    spec: DataSpec,
    *,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Endless training batches from a step on.

    The batch of step t is a pure function of (data, spec, seed, t), independent of where the
    iterator started and of the number of processes. Batches run across the ends of epochs; one
    that is larger than the data contains examples more than once.

    Args:
      data: examples from `load` or `load_arrays`.
      spec: what to do with them; spec.batch_size rows over all processes.
      seed: of the order and the augmentation, 0 to 2³² - 1.
      start_step: the step of the first batch.
      process_index: this process, 0 to process_count - 1; it gets rows process_index,
        process_index + process_count, … of the global batch.
      process_count: how many processes share a batch; must divide spec.batch_size.

    Returns:
      an iterator of batches with `inputs` float32 [B/P, S, S, C], `labels` int32 [B/P] or
      float32 [B/P, classes], `mask` bool [B/P] (False only where an image cannot be read) and
      `index` int32 [B/P], the number of the example in `data`. Host arrays, except that
      augmented inputs are on the default device.

    Raises:
      ValueError: if there are no examples, or a number is out of its range. At call.
    """
    order = Order(
        num_examples(data),
        spec.batch_size,
        seed=seed,
        process_index=process_index,
        process_count=process_count,
    )
    if start_step < 0:
        raise ValueError(f"expected start_step of at least 0, got {start_step}")
    if isinstance(data, Arrays):
        return _from_memory(data, spec, order, start_step)
    return _from_source(data, spec, order, start_step)


def _from_memory(data: Arrays, spec: DataSpec, order: Order, step: int) -> Iterator[Batch]:
    # Whatever is the same in every step is done once, for all examples.
    ready = None if spec.device_augments else apply(spec, data.images)
    augment = _augmenter(spec, order)
    whole = np.ones(order.rows, bool)
    while True:
        index = order[step]
        mask = whole if data.mask is None else data.mask[index]
        inputs = augment(step, data.images[index]) if ready is None else ready[index]
        yield {"inputs": inputs, "labels": data.labels[index], "mask": mask, "index": index}
        step += 1


def _from_source(data: Lazy, spec: DataSpec, order: Order, step: int) -> Iterator[Batch]:
    import grain  # a second to import, and only needed here

    items = grain.MapDataset.source(_Items(data, spec, order))
    batches = items.batch(order.rows)[step:]
    options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=THREADS)
    augment = _augmenter(spec, order)
    for batch in batches.to_iter_dataset(options):
        inputs = augment(step, batch.pop("images"))
        yield {"inputs": inputs, **batch}
        step += 1


class _Items:
    """The endless training examples of a process in their order, decoded on demand.

    Augmentations depend on the seed and on the position in the order of all processes.
    """

    def __init__(self, data: Lazy, spec: DataSpec, order: Order) -> None:
        self._data, self._spec, self._order = data, spec, order

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, position: int) -> dict[str, Any]:
        order = self._order
        step, row = divmod(position, order.rows)
        place = step * order.batch_size + row * order.process_count + order.process_index
        index = int(order[step][row])
        return self._data.decode(index, self._spec, key=(order.seed, place))


def _augmenter(spec: DataSpec, order: Order) -> Callable[[int, np.ndarray], Any]:
    seed_key = jax.random.fold_in(jax.random.key(order.seed), zlib.crc32(b"augment"))
    rows = np.arange(order.rows, dtype=np.int32) * order.process_count + order.process_index

    def augment(step: int, images: np.ndarray) -> Any:
        return transform(spec, jax.random.fold_in(seed_key, step), images, rows=rows)

    return augment
