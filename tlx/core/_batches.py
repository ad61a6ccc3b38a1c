"""Batches of one constant shape, from what other libraries yield."""

import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from tlx.core import contracts
from tlx.core.types import Batch

Choice = str | int | Sequence[str] | Callable[[Any], Any] | None
"""What of a batch is meant: a key, a position, several keys, or a function of the batch."""

PADDING = np.iinfo(np.int32).max
"""The number of a row that is no example."""


def pad_batch(batch: Batch, size: int) -> dict[str, Any]:
    """The batch with `size` rows: zero rows are added, with mask False.

    `index`, where present, is continued into the padding with the largest int32, which no
    example has. A batch without `mask` gets one. `inputs` may be any pytree of arrays [B, ...];
    a scalar in it is for all rows, and stays.

    Raises:
      ValueError: if the batch has more than `size` rows, or its arrays differ in them.
    """
    rows = contracts.num_rows(batch["inputs"])
    if rows > size:
        raise ValueError(f"expected a batch of at most {size} rows, got {rows}")
    paths = jax.tree_util.tree_flatten_with_path(dict(batch))[0]
    others = [
        f"{jax.tree_util.keystr(path, simple=True, separator='/')} {np.shape(x)[0]}"
        for path, x in paths
        if np.ndim(x) and np.shape(x)[0] != rows
    ]
    if others:
        raise ValueError(f"expected {rows} rows in each array as in inputs, got {others}")
    out = dict(batch)
    out.setdefault("mask", np.ones(rows, bool))
    if rows == size:
        return out

    def padded(array: Any, fill: int = 0) -> Any:
        array = np.asarray(array)
        if not array.ndim:
            return array
        padding = np.full((size - rows, *array.shape[1:]), fill, array.dtype)
        return np.concatenate([array, padding])

    number = {"index": padded(out.pop("index"), PADDING)} if "index" in out else {}
    return jax.tree.map(padded, out) | number


@dataclass(eq=False)
class BatchStream:
    """A stream over the batches of another library; see `from_batches`."""

    source: Any
    inputs: Choice
    labels: Choice
    mask: Choice
    batch_size: int | None

    def __post_init__(self) -> None:
        self._count: int | None = None
        self._first: bytes | None = None

    @property
    def num_examples(self) -> int:
        """The number of examples, N; by a pass where none has ended yet."""
        if self._count is None:
            for _ in self():
                pass
        assert self._count is not None
        return self._count

    def __call__(self) -> Iterator[dict[str, Any]]:
        """Starts a pass."""
        size, count = self.batch_size, 0
        for number, batch in enumerate(_started(self.source, self.batch_size)):
            parts = self._parts(batch)
            if not number:
                self._same_first(parts)
            rows = contracts.num_rows(parts["inputs"])
            size = size or rows
            if rows > size:
                raise ValueError(
                    f"expected batches of at most {size} rows, got {rows} in batch {number}; pass "
                    "batch_size= of the largest"
                )
            mask = contracts.host_mask(parts)
            index = np.full(rows, PADDING, np.int32)
            index[mask] = np.arange(count, count + mask.sum(), dtype=np.int32)
            count += int(mask.sum())
            yield pad_batch({**parts, "mask": mask, "index": index}, size)
        self._count = count

    def _same_first(self, parts: dict[str, Any]) -> None:
        """Checks that a pass begins as those before."""
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves(parts):
            if contracts.is_here(leaf):
                digest.update(np.ascontiguousarray(leaf).tobytes())
        before, self._first = self._first or digest.digest(), digest.digest()
        if before != self._first:
            raise ValueError(
                "expected a source that begins every pass with the same batch, got another one; "
                "turn shuffling and random augmentation off"
            )

    def _parts(self, batch: Any) -> dict[str, Any]:
        by_name = isinstance(batch, Mapping)
        if self.inputs is None and isinstance(batch, tuple | list) and len(batch) > 2:
            raise ValueError(
                f"expected a choice of inputs= and labels= among the {len(batch)} parts of a "
                "batch, got none; a position or a function of the batch"
            )
        inputs = _chosen(batch, self.inputs, "inputs", 0)
        found = {"inputs": _arrays(inputs, "inputs")}
        if not contracts.num_rows(found["inputs"]):
            raise ValueError(
                "expected batches whose inputs are arrays [B, ...], got scalars; a source of "
                "single examples is to be batched first"
            )
        pair = isinstance(batch, tuple | list) and len(batch) == 2
        if self.labels is not None or pair or (by_name and "labels" in batch):
            found["labels"] = _arrays(_chosen(batch, self.labels, "labels", 1), "labels")
            if not all(np.ndim(x) for x in jax.tree.leaves(found["labels"])):
                raise ValueError(
                    "expected batches with labels [B, ...], got a scalar; a source of single "
                    "examples is to be batched first"
                )
        taken = self.inputs == "mask" or (
            isinstance(self.inputs, list | tuple) and "mask" in self.inputs
        )
        if self.mask is not None or (by_name and "mask" in batch and not taken):
            mask = np.asarray(_arrays(_chosen(batch, self.mask, "mask", 2), "mask"))
            if mask.dtype != bool or mask.ndim != 1:
                raise ValueError(
                    f"expected mask as bool [B], True where a row is an example, got {mask.dtype} "
                    f"{list(mask.shape)}; choose another by mask="
                )
            found["mask"] = mask
        return found


def from_batches(
    source: Any,
    *,
    inputs: Choice = None,
    labels: Choice = None,
    mask: Choice = None,
    batch_size: int | None = None,
) -> BatchStream:
    """A stream from batches of another library: torch, grain, Hugging Face, tf.data.

    Args:
      source: what gives the batches anew each time: a list, a DataLoader of torch or grain, a
        batched data set of grain, a data set of Hugging Face (which is batched here,
        by `batch_size`), or a function without arguments that starts a pass.
      inputs: what the model is given: a key, a position, several keys (as a dict of them), or a
        function of the batch. None: "inputs" of a mapping, the first of a pair, or the batch
        itself where it is one array.
      labels: likewise. None: "labels" of a mapping, the second of a pair, else none.
      mask: likewise, bool [B], True where a row is an example. None: "mask" of a mapping, unless
        that is among the inputs; else every row is one.
      batch_size: rows of every batch; None: as many as the first has. Shorter ones are padded.

    Returns:
      A stream of batches with `inputs`, a pytree of arrays [B, ...], `labels` where there are any,
      `mask` bool [B] and `index` int32 [B], the number of the example in its pass. Tensors become
      arrays of numpy, lists of numbers too. Its `num_examples` is N, by a pass where none has
      ended yet.

    Raises:
      TypeError: at call, for an iterator, which can be read only once; for arrays, which
        `from_arrays` takes; and in a pass for what cannot become an array.
      ValueError: for a batch_size that is not positive or, with a data set of Hugging Face, not
        given; and in a pass for a key or position that is not there, single examples, batches
        that are larger than `batch_size`, and a first batch that is not that of the pass before.

    >>> from tlx.core import streams
    >>> loader = [{"image": [[1.0], [2.0]], "class": [0, 1]}, {"image": [[3.0]], "class": [1]}]
    >>> stream = streams.from_batches(loader, inputs="image", labels="class")
    >>> [(batch["labels"].tolist(), batch["mask"].tolist()) for batch in stream()]
    [([0, 1], [True, True]), ([1, 0], [True, False])]
    """
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"expected batch_size of at least 1, got {batch_size}")
    if isinstance(source, Mapping):
        raise TypeError(
            f"expected a source of batches, got a mapping with the keys {sorted(map(str, source))}"
            "; pass one of its values, or arrays to from_arrays"
        )
    if isinstance(source, str | np.ndarray | jax.Array) or hasattr(source, "detach"):
        raise TypeError(
            f"expected a source of batches, got {type(source).__name__}; "
            "from_arrays(inputs, labels, batch_size=…) takes arrays"
        )
    if _is_examples(source):
        raise TypeError(
            f"expected a source of batches, got the data set {type(source).__name__} of torch, "
            "whose items are single examples; pass torch.utils.data.DataLoader(it, batch_size=…)"
        )
    if _is_hugging_face(source):
        if batch_size is None:
            raise ValueError(
                "expected batch_size= with a data set of Hugging Face, whose items are single "
                "examples"
            )
    elif hasattr(source, "__next__") or inspect.isgenerator(source):
        raise TypeError(
            f"expected a source that gives its batches anew in each pass, got the iterator "
            f"{type(source).__name__}, which can be read only once; pass what it was made from, or "
            "a function that makes it"
        )
    elif not (hasattr(source, "__iter__") or hasattr(source, "__getitem__") or callable(source)):
        raise TypeError(
            f"expected a source of batches (an iterable, or a function that starts a pass), got "
            f"{type(source).__name__}"
        )
    return BatchStream(source, inputs, labels, mask, batch_size)


def _is_examples(source: Any) -> bool:
    """Whether it is a data set of torch, not a loader of one; nothing here imports torch."""
    modules = {cls.__module__ for cls in type(source).__mro__}
    return "torch.utils.data.dataset" in modules


def _is_hugging_face(source: Any) -> bool:
    return hasattr(source, "column_names") and callable(getattr(source, "iter", None))


def _started(source: Any, batch_size: int | None) -> Iterable[Any]:
    if _is_hugging_face(source):
        return source.iter(batch_size=batch_size)
    if hasattr(source, "__iter__") or hasattr(source, "__getitem__"):
        return iter(source)
    return source()


def _chosen(batch: Any, choice: Choice, name: str, place: int) -> Any:
    """What of a batch is meant; by default its `name`, or what is at its `place`."""
    if callable(choice):
        return choice(batch)
    if isinstance(choice, list | tuple):
        return {key: _chosen(batch, key, name, place) for key in choice}
    if isinstance(batch, Mapping):
        key = name if choice is None else choice
        if key not in batch:
            raise ValueError(
                f"expected a batch with {name} under {key!r}, got the keys "
                f"{sorted(map(str, batch))}; choose by {name}="
            )
        return batch[key]
    if isinstance(batch, tuple | list):
        at = place if choice is None else choice
        if not isinstance(at, int) or not -len(batch) <= at < len(batch):
            raise ValueError(
                f"expected a batch with {name} at {at!r}, got one of {len(batch)} parts; choose a "
                f"position by {name}="
            )
        return batch[at]
    if choice is None:
        return batch
    raise ValueError(
        f"expected a batch with parts, for {name}={choice!r}, got {type(batch).__name__}"
    )


def _arrays(part: Any, name: str) -> Any:
    """The part with arrays for leaves."""
    return jax.tree.map(lambda leaf: _array(leaf, name), part, is_leaf=_is_numbers)


def _is_numbers(node: Any) -> bool:
    """Whether it is a list of numbers, of such lists, or of images of Pillow."""
    if not isinstance(node, list | tuple) or not node:
        return False
    first = node[0]
    is_image = hasattr(first, "__array_interface__") and not isinstance(first, np.ndarray)
    return isinstance(first, bool | int | float | np.generic) or is_image or _is_numbers(first)


def _array(leaf: Any, name: str) -> Any:
    if isinstance(leaf, Mapping):  # that is no pytree
        return _arrays(dict(leaf), name)
    if isinstance(leaf, jax.Array | np.ndarray):
        return leaf
    if hasattr(leaf, "detach"):  # a tensor of torch
        leaf = leaf.detach().cpu()
        if str(leaf.dtype) == "torch.bfloat16":  # which numpy has not
            return leaf.float().numpy().astype(jax.numpy.bfloat16)
        return leaf.numpy()
    try:
        found = np.asarray(leaf)
    except ValueError as error:
        raise ValueError(
            f"expected {name} as arrays [B, ...], got lists of different lengths; pad them to one"
        ) from error
    if found.dtype == object or found.dtype.kind in "USO":
        raise TypeError(
            f"expected {name} as arrays, got {type(leaf).__name__}; convert it by a function, "
            f"{name}=lambda batch: …"
        )
    return found
