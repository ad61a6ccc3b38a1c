"""Streams: replayable finite passes over data, in batches of one constant shape."""

import inspect
import itertools
import queue
import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tlx.core import contracts, host, public
from tlx.core._batches import from_batches as from_batches
from tlx.core._batches import pad_batch as pad_batch
from tlx.core.types import Batch, Stream

__dir__ = public.names(__name__)

_A_STREAM = (
    "a stream is a function without arguments that starts a pass over batches, each a mapping with "
    "'inputs' [B, ...]; tlx.core.streams.from_arrays(inputs, labels, batch_size=…) makes one"
)


@dataclass(frozen=True, eq=False)
class ArrayStream:
    """A stream over arrays in memory; see `from_arrays`."""

    arrays: Mapping[str, Any]
    batch_size: int

    @property
    def num_examples(self) -> int:
        """The number of examples, N."""
        return contracts.num_rows(self.arrays["inputs"])

    @property
    def num_batches(self) -> int:
        """The number of batches in a pass: N / batch_size, rounded up."""
        return -(-self.num_examples // self.batch_size)

    def __call__(self) -> Iterator[Batch]:
        """Starts a pass."""
        for start in range(0, self.num_examples, self.batch_size):
            here = slice(start, min(start + self.batch_size, self.num_examples))
            rows = jax.tree.map(lambda x, here=here: _rows(x, here), dict(self.arrays))
            index = np.arange(here.start, here.stop, dtype=np.int32)
            yield pad_batch({**rows, "index": index}, self.batch_size)


@host.only
def from_arrays(inputs: Any, labels: Any = None, *, batch_size: int) -> ArrayStream:
    """A stream over arrays in memory, in their order, the last batch padded.

    Args:
      inputs: [N, ...] array (numpy, or anything that slices along its first axis), or a pytree of
        such arrays: {"ids": [N, T], "mask": [N, T]}.
      labels: [N, ...] array, or None for a stream without labels.
      batch_size: rows in each batch, B.

    Returns:
      A stream of batches with `inputs` [B, ...], `labels` [B, ...] if given, `mask` bool [B]
      and `index` int32 [B]; its `num_examples` is N. No data, no batches.

    Raises:
      ValueError: if batch_size is not positive or the lengths differ.

    >>> import numpy as np
    >>> from tlx.core import streams
    >>> stream = streams.from_arrays(np.zeros((5, 2)), np.arange(5), batch_size=3)
    >>> [(batch["inputs"].shape, batch["mask"].tolist()) for batch in stream()]
    [((3, 2), [True, True, True]), ((3, 2), [True, True, False])]
    """
    if batch_size < 1:
        raise ValueError(f"expected batch_size of at least 1, got {batch_size}")
    if isinstance(inputs, list):
        inputs = np.asarray(inputs)
    inputs = jax.tree.map(lambda x: _sliceable("inputs", x), inputs, is_leaf=_is_array)
    labels = _sliceable("labels", labels)
    if not jax.tree.leaves(inputs):
        raise ValueError("expected inputs that hold at least one array [N, ...], got none")
    arrays = {"inputs": inputs} if labels is None else {"inputs": inputs, "labels": labels}
    lengths = {
        jax.tree_util.keystr(path, simple=True, separator="/"): len(x)
        for path, x in jax.tree_util.tree_flatten_with_path(arrays, is_leaf=_is_array)[0]
    }
    if len(set(lengths.values())) > 1:
        if len(lengths) == 2 and labels is not None:
            number, other = lengths.values()
            raise ValueError(
                f"expected one label for each input, got {number} inputs and {other} labels"
            )
        raise ValueError(f"expected arrays of one length, got {lengths}")
    return ArrayStream(arrays, batch_size)


def _is_array(node: Any) -> bool:
    return hasattr(node, "shape")


def _sliceable(name: str, values: Any) -> Any:
    """What slices along its first axis; lists become arrays."""
    if isinstance(values, list | tuple):
        values = np.asarray(values)
    if values is not None and not (hasattr(values, "__len__") and np.ndim(values)):
        raise ValueError(f"expected {name} as an array [N, ...], got {type(values).__name__}")
    return values


def _rows(values: Any, here: slice) -> Any:
    values = values[here]
    return values if isinstance(values, np.ndarray | jax.Array) else np.asarray(values)


def peek(stream: Stream) -> tuple[Batch | None, Stream]:
    """The first batch (None if there is none), and the stream with that pass still to come.

    For what needs to know the shapes before it reads: nothing is read twice. Every pass is
    checked; see `Checked`.
    """
    stream = checked(stream)
    started = stream()
    first = next(started, None)
    if first is None:
        return None, stream
    return first, Resumed(stream, itertools.chain([first], started))


def checked(stream: Stream) -> "Checked":
    """The stream, of which every batch and pass is checked when it is read; see `Checked`.

    Raises:
      TypeError: if it is no function. At call.
    """
    if isinstance(stream, Checked):
        return stream
    if not callable(stream):
        raise TypeError(f"expected a stream, got {type(stream).__name__}: {_A_STREAM}")
    return Checked(stream)


class Checked:
    """A stream that is checked against the contract of `tlx.core.types.Stream` as it is read.

    Each batch is a mapping of arrays with equally many rows, at least one, `inputs` among them (a
    part of which may be a scalar, for all rows); `mask` is bool [B] and `index` integer [B]. In a
    pass no index is repeated. Every pass has as many examples as the one before, which exposes
    iterators that can only be read once.

    Raises:
      TypeError: for another kind of batch or leaf.
      ValueError: for missing keys, arrays of different lengths, a repeated index, a different
        number of examples, or integers that JAX does not hold (beyond 32 bits without
        jax_enable_x64).
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._remembered = _remembered(stream)

    def __call__(self) -> Iterator[Batch]:
        """Starts a pass."""
        given = self.stream()
        if inspect.isgenerator(given) and inspect.getgeneratorstate(given) != inspect.GEN_CREATED:
            raise ValueError(
                "expected a stream that starts a new pass at each call, got a generator that was "
                f"read before: {_A_STREAM}"
            )
        try:
            batches = iter(given)
        except TypeError as error:
            raise TypeError(
                f"expected a stream to return an iterator, got {type(given).__name__}: {_A_STREAM}"
            ) from error
        return self._read(batches)

    def _read(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        count: int | None = 0
        numbers: list[np.ndarray] = []
        for batch in batches:
            _check_batch(batch)
            if count is None or not all(map(contracts.is_here, jax.tree.leaves(dict(batch)))):
                count = None  # rows of other processes are not to be counted here
            else:
                mask = contracts.host_mask(batch)
                count += int(mask.sum())
                if "index" in batch:
                    numbers.append(np.asarray(batch["index"])[mask])
            yield batch
        _check_numbers(numbers)
        if count is not None:
            self._same(count)

    def _same(self, count: int) -> None:
        """Checks that a pass has as many examples as the first."""
        before = self._remembered.setdefault("examples", count)
        if before != count:
            raise ValueError(
                f"expected a stream with the same examples in every pass, got {before} in one and "
                f"{count} in another; an iterator can only be read once: {_A_STREAM}"
            )


class Resumed(Checked):
    """A checked stream of which the first pass has begun."""

    def __init__(self, stream: Checked, begun: Iterator[Batch]) -> None:
        self.stream, self._remembered = stream.stream, stream._remembered
        self._begun: Iterator[Batch] | None = begun

    def __call__(self) -> Iterator[Batch]:
        """Continues that pass the first time, then starts new ones."""
        begun, self._begun = self._begun, None
        return begun if begun is not None else super().__call__()


_passes: dict[Any, tuple[Any, dict[str, int]]] = {}


def _remembered(stream: Stream) -> dict[str, int]:
    """What is known of a stream from earlier passes, for as long as it lives."""
    owner = getattr(stream, "__self__", stream)  # a bound method is made anew at each access
    key = (id(owner), getattr(stream, "__name__", ""))
    if key not in _passes or _passes[key][0]() is not owner:
        try:
            _passes[key] = (weakref.ref(owner, lambda _: _passes.pop(key, None)), {})
        except TypeError:  # it cannot be weakly referenced
            return {}
    return _passes[key][1]


def _check_batch(batch: Any) -> None:
    if not isinstance(batch, Mapping):
        what = type(batch).__name__
        if isinstance(batch, tuple | list):
            what += f" of {len(batch)}; write it as {{'inputs': …, 'labels': …}}"
        raise TypeError(f"expected a batch as a mapping with 'inputs', got {what}. {_A_STREAM}")
    if "inputs" not in batch:
        raise ValueError(
            f"expected a batch with 'inputs', got the keys {sorted(map(str, batch))}; rename what "
            "the model is to be given"
        )
    host.check("a pass over a stream", batch=dict(batch))
    leaves = jax.tree_util.tree_flatten_with_path(dict(batch))[0]
    for path, leaf in leaves:
        _check_leaf(path, leaf)
    if not any(x.ndim for x in jax.tree.leaves(batch["inputs"])):
        raise ValueError("expected a batch whose inputs hold at least one array, got none")
    rows = contracts.num_rows(batch["inputs"])
    others = [
        f"{_name(path)} {list(x.shape)}" for path, x in leaves if x.shape[:1] not in ((), (rows,))
    ]
    if others or not rows:
        raise ValueError(
            f"expected batches of at least one row, with as many in each array, got inputs of "
            f"{rows}" + (f" rows and {', '.join(others)}" if others else " rows")
        )
    if "mask" in batch and not (batch["mask"].dtype == bool and batch["mask"].ndim == 1):
        contracts.mask_of(batch)  # which says what is wrong
    if "index" in batch and not _is_index(batch["index"]):
        found = batch["index"]
        raise ValueError(
            "expected 'index' as integers [B], the number of each example in the stream, got "
            f"{found.dtype} {list(found.shape)}"
        )


def _is_index(index: Any) -> bool:
    return index.ndim == 1 and bool(jnp.issubdtype(index.dtype, jnp.integer))


def _check_leaf(path: Any, leaf: Any) -> None:
    is_input = path[0] == jax.tree_util.DictKey("inputs")
    if not isinstance(leaf, jax.Array | np.ndarray) and not (
        is_input and isinstance(leaf, np.generic)
    ):
        raise TypeError(
            f"expected arrays of numpy or jax in a batch, got {type(leaf).__name__} in "
            f"{_name(path)}; convert it by np.asarray, or leave it out"
        )
    if not _is_numeric(leaf):
        raise TypeError(
            f"expected numbers in a batch, got dtype {leaf.dtype} in {_name(path)}; convert them, "
            "or leave them out"
        )
    if not leaf.ndim and not is_input:
        raise ValueError(f"expected arrays [B, ...] in a batch, got a scalar in {_name(path)}")
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "iu" and leaf.size:
        _check_integers(path, leaf)


def _check_integers(path: Any, leaf: np.ndarray) -> None:
    """Checks that they are the same numbers on a device, which may have only 32 bits of them."""
    held = np.iinfo(jax.dtypes.canonicalize_dtype(leaf.dtype))
    if held.bits == np.iinfo(leaf.dtype).bits:
        return
    for found in (leaf.min(), leaf.max()):
        if not held.min <= found <= held.max:
            raise ValueError(
                f"expected integers in {held.min} … {held.max} in a batch, which is what JAX holds "
                f"in {held.bits} bits, got {found} in {_name(path)}; number them anew, convert "
                "them to floats, or set jax_enable_x64"
            )


def _is_numeric(leaf: Any) -> bool:
    kinds = (np.number, np.bool_, jax.dtypes.extended)  # the last are typed PRNG keys
    return any(jnp.issubdtype(leaf.dtype, kind) for kind in kinds)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _check_numbers(numbers: list[np.ndarray]) -> None:
    """Checks the numbers of the examples in a pass: at least 0, none repeated."""
    if not numbers:
        return
    every = np.concatenate(numbers)
    if every.size and every.min() < 0:
        raise ValueError(f"expected 'index' of at least 0 where mask is True, got {every.min()}")
    if np.all(every[1:] > every[:-1]):
        return
    found, times = np.unique(every, return_counts=True)
    if times.max(initial=1) > 1:
        twice = found[times > 1]
        raise ValueError(
            f"expected each example once in a pass, got {len(twice)} repeated numbers in 'index', "
            f"such as {twice[0]}; number examples over the entire stream, not within a batch"
        )


def prefetch(stream: Stream, size: int = 2) -> Stream:
    """The same stream, with up to `size` batches read ahead in a thread.

    For streams that decode or read files. An error in the stream is raised in place of the
    batch that caused it; leaving a pass early ends its thread.
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
