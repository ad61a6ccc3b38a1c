"""Checks of external input where it enters: labels and the values of each example.

Shapes and dtypes are checked while tracing, which costs nothing once a function is compiled. What
only the numbers show (labels out of range, a repeated example) is checked on the host, in a few
microseconds a batch.
"""

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from tlx.core import public
from tlx.core.types import Batch, PerExampleFn

__dir__ = public.names(__name__)

Check = Callable[[np.ndarray, np.ndarray], None]
"""`(values of the rows that are examples, their numbers in the batch) -> None`, or it raises."""


def mask_of(batch: Batch) -> Bool[Array, " B"]:
    """The batch's mask; all True for a batch without one.

    Raises:
      ValueError: if it is not bool [B]. While tracing.
    """
    if "mask" not in batch:
        return jnp.ones(num_rows(batch["inputs"]), bool)
    mask = jnp.asarray(batch["mask"])
    if mask.dtype != bool or mask.ndim != 1:
        raise ValueError(
            f"expected mask as bool [B], True where a row is an example, got {mask.dtype} "
            f"{list(mask.shape)}; weights of examples are for metrics.ratio"
        )
    return mask


def num_rows(inputs: Any) -> int:
    """B, of the first part of the inputs with rows; 0 if none has any. A scalar is for all rows."""
    return next((np.shape(x)[0] for x in jax.tree.leaves(inputs) if np.ndim(x)), 0)


def per_example(fn: PerExampleFn, outputs: Any, batch: Batch) -> Float[Array, " B"]:
    """What a per-example function returns, checked.

    Raises:
      ValueError: if it is not one real floating value for each row. While tracing.
    """
    rows = mask_of(batch).shape[0]
    values = fn(outputs, batch)
    name = getattr(fn, "__name__", type(fn).__name__)
    if not isinstance(values, jax.Array | np.ndarray | float | int):
        raise TypeError(
            f"expected {name}(outputs, batch) to return one array [{rows}], got "
            f"{type(values).__name__}"
        )
    shape = jnp.shape(values)
    if shape != (rows,):
        raise ValueError(
            f"expected {name}(outputs, batch) to return one value for each of {rows} rows, got "
            f"shape {list(shape)} against [{rows}]; it neither reduces nor masks{_why(shape, rows)}"
        )
    if not jnp.issubdtype(jnp.result_type(values), jnp.floating):
        raise ValueError(
            f"expected {name}(outputs, batch) to return floating values [{rows}], got "
            f"{jnp.result_type(values)}; convert them by .astype(jnp.float32)"
        )
    return jnp.asarray(values)


def _why(shape: tuple[int, ...], rows: int) -> str:
    if shape == ():
        return ". A mean over the batch would count a padded batch wrongly: return it by row"
    if shape == (rows, rows):
        return f". [{rows}, 1] against [{rows}] broadcasts to this: give both the same shape"
    if shape == (rows, 1):
        return ". Drop the last axis: values[:, 0]"
    if shape[:1] == (rows,):
        return ". Reduce what follows the first axis, or use metrics.tokens for sequences"
    return ""


def class_labels(
    outputs: Any, batch: Batch, *, tokens: bool = False, ignored: int | None = None
) -> tuple[Array, Array]:
    """Logits [B, C] and integer labels [B], checked; of tokens [B, T, C] and [B, T].

    Labels may be `ignored` too.

    Raises:
      ValueError: for other shapes, fewer than two classes, or batches without labels. While
        tracing; `Values` also for a label out of range.
      TypeError: for outputs that are not one floating array, or labels that are not integers.
    """
    logits, labels = _logits(outputs), _labels(batch)
    wanted = "logits [B, T, C] and labels [B, T]" if tokens else "logits [B, C] and labels [B]"
    got = f"got logits {list(logits.shape)} and labels {list(labels.shape)}"
    if logits.ndim != 2 + tokens or labels.shape != logits.shape[:-1]:
        raise ValueError(f"expected {wanted}, {got}{_hint(logits.shape, labels.shape)}")
    if logits.shape[-1] < 2:
        raise ValueError(
            f"expected logits of at least two classes, {got}; for one logit an example use "
            "metrics.multilabel with labels of 0 and 1 [B, 1]"
        )
    _check_integer(labels)
    require(batch["labels"], functools.partial(_in_classes, logits.shape[-1], ignored))
    return logits, labels


def token_labels(batch: Batch) -> Array:
    """Integer labels [B, T], checked.

    Raises:
      ValueError, TypeError: for another shape or dtype, or batches without labels. While tracing.
    """
    labels = _labels(batch)
    if labels.ndim != 2:
        raise ValueError(f"expected labels of sequences [B, T], got {list(labels.shape)}")
    _check_integer(labels)
    return labels


def _check_integer(labels: Array) -> None:
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(
            f"expected labels as integers, the numbers of the classes, got dtype {labels.dtype}; "
            "for other targets use metrics.regression or metrics.multilabel"
        )


def _hint(logits: tuple[int, ...], labels: tuple[int, ...]) -> str:
    if len(logits) == 2 and labels == logits:
        return "; pass the numbers of the classes, labels.argmax(-1), or use metrics.multilabel"
    if labels == (*logits[:-1], 1):
        return "; drop the last axis of the labels: labels[..., 0]"
    if len(logits) == 3 and labels == logits[:-1]:
        return "; for a class at each position use metrics.tokens"
    return ""


def binary_labels(outputs: Any, batch: Batch) -> tuple[Array, Array]:
    """Logits and labels of 0 and 1, both [B, C], checked.

    Raises:
      ValueError: for other shapes, or batches without labels. While tracing; `Values` also for
        labels that are neither 0 nor 1.
      TypeError: for outputs that are not one floating array.
    """
    logits, labels = _logits(outputs), _labels(batch)
    if logits.ndim != 2 or labels.shape != logits.shape:
        hint = ""
        if labels.shape == logits.shape[:1]:
            hint = "; one label an example takes labels[:, None] with logits [B, 1], or the class "
            hint += "number with metrics.classification"
        raise ValueError(
            f"expected logits and labels [B, C], C labels of 0 and 1 an example, got logits "
            f"{list(logits.shape)} and labels {list(labels.shape)}{hint}"
        )
    require(batch["labels"], zero_or_one)
    return logits, labels


def targets(outputs: Any, batch: Batch) -> tuple[Array, Array]:
    """Outputs and real labels of one shape [B, ...], checked.

    Raises:
      ValueError: for other shapes, or batches without labels. While tracing.
      TypeError: for outputs that are not one floating array, or complex labels.
    """
    outputs, labels = _logits(outputs, "outputs"), _labels(batch)
    if labels.shape != outputs.shape:
        raise ValueError(
            f"expected outputs and labels of one shape [B, ...], got {list(outputs.shape)} and "
            f"{list(labels.shape)}; reshape one of them, so that nothing broadcasts"
        )
    if jnp.issubdtype(labels.dtype, jnp.complexfloating):
        raise TypeError(f"expected real labels, got dtype {labels.dtype}")
    return outputs, labels


def check_array(outputs: Any, name: str = "outputs") -> None:
    """Checks that a model's outputs are one array, or the shape and dtype of one.

    Raises:
      TypeError: if not; with what they are, and how to choose.
    """
    if isinstance(outputs, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
        return
    flat = jax.tree_util.tree_flatten_with_path(outputs)[0]
    parts = [
        f"{jax.tree_util.keystr(path, simple=True, separator='/')} {list(np.shape(x))}".strip()
        for path, x in flat[:8]
    ]
    found = type(outputs).__name__ + (f" with {', '.join(parts)}" if len(flat) > 1 else "")
    raise TypeError(
        f"expected {name} as one array [B, ...], got {found}; choose the one to be evaluated: "
        "adapt(…, output=lambda outputs: outputs[0]) in tlx.adapters, or wrap the apply function"
    )


def _logits(outputs: Any, name: str = "logits") -> Array:
    check_array(outputs, name)
    outputs = jnp.asarray(outputs)
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise TypeError(f"expected {name} as floating numbers, got dtype {outputs.dtype}")
    return outputs


def _labels(batch: Batch) -> Array:
    if "labels" not in batch:
        raise ValueError(f"expected batches with 'labels', got the keys {sorted(batch)}")
    labels = batch["labels"]
    if not isinstance(labels, jax.Array | np.ndarray):
        raise TypeError(f"expected labels as one array [B, ...], got {type(labels).__name__}")
    # in 8 bits a number of classes, or of an ignored class, may be another number
    is_integer = jnp.issubdtype(labels.dtype, jnp.integer)
    return jnp.asarray(labels, jnp.result_type(int) if is_integer else None)


def typed_key(key: Any) -> None:
    """Checks that it is one typed PRNG key.

    Raises:
      TypeError: for anything else, such as the integers of `jax.random.PRNGKey`, which arithmetic
        would take.
      ValueError: for an array of keys.
    """
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        shape = f" {key.dtype} {list(key.shape)}" if hasattr(key, "dtype") else ""
        raise TypeError(
            "expected key to be a typed PRNG key, such as jax.random.key(0), got "
            f"{type(key).__name__}{shape}; jax.random.wrap_key_data converts others"
        )
    if key.ndim:
        raise ValueError(f"expected one PRNG key, got {list(key.shape)}; choose one: keys[0]")


def metric(given: Any) -> None:
    """Checks that it is a metric.

    Raises:
      TypeError: for anything else, such as the function that makes one.
    """
    if not all(callable(getattr(given, name, None)) for name in ("init", "update", "compute")):
        name = getattr(given, "__name__", type(given).__name__)
        raise TypeError(
            f"expected a metric, such as metrics.classification(), got {name}; call the function "
            "that makes it, or make one of a loss: metrics.mean(loss)"
        )


_required: ContextVar[list[tuple[Any, Check]] | None] = ContextVar("required", default=None)


def require(leaf: Any, check: Check) -> None:
    """Requests a check of a leaf of the batch, as given, on the host before each batch is folded.

    Lets per-example functions and metrics state which numbers they accept; see `Values`. Has no
    effect when they are called otherwise, nor for values computed from a leaf.
    """
    required = _required.get()
    if required is not None:
        required.append((leaf, check))


def _in_classes(num: int, ignored: int | None, labels: np.ndarray, rows: np.ndarray) -> None:
    wrong = (labels < 0) | (labels >= num)
    if ignored is not None:
        wrong &= labels != ignored
    if wrong.any():
        shown, where = labels[wrong][0], rows[np.argwhere(wrong)[0][0]]
        remedy = "mask such rows out (mask False)"
        if labels.ndim > 1:
            remedy = f"mark positions that do not count by metrics.tokens(ignore={shown})"
        raise ValueError(
            f"expected labels in 0 … {num - 1}, as there are {num} logits, got {wrong.sum()} of "
            f"{wrong.size} outside, such as {shown} in row {where} of the batch; {remedy}"
        )


def zero_or_one(labels: np.ndarray, rows: np.ndarray) -> None:
    """Raises ValueError for labels [R, C] other than 0 and 1, of these rows of a batch."""
    wrong = (labels != 0) & (labels != 1)
    if wrong.any():
        raise ValueError(
            f"expected labels of 0 and 1, got {wrong.sum()} others of {wrong.size}, such as "
            f"{labels[wrong][0]} in row {rows[np.argwhere(wrong)[0][0]]} of the batch; map them to "
            "0 or 1 first, or mask such rows out (mask False)"
        )


def below(num_examples: int) -> Check:
    """Of `index`: each less than the number of examples."""
    return functools.partial(_below, num_examples)


def _below(num: int, index: np.ndarray, rows: np.ndarray) -> None:
    if index.size and index.max() >= num:
        raise ValueError(
            f"expected 'index' in 0 … {num - 1} by num_examples={num}, got {index.max()} in row "
            f"{rows[index.argmax()]} of the batch; pass the number of examples of the stream"
        )


class Values:
    """The checks of the numbers in each batch that a fold requests by `require`.

    Args:
      fold: `(*static, params, batch) -> anything`, traced once for each structure and shapes.
      static: hashable arguments of it, such as the apply function and the metric.
    """

    def __init__(self, fold: Callable[..., Any], *static: Any) -> None:
        self._of, self._like, self._checks = (fold, static), None, ()  # type: Any, Any, Any

    def __call__(self, params: Any, batch: Batch) -> None:
        """Raises what the checks raise. `params` may be `jax.ShapeDtypeStruct`s."""
        leaves, treedef = jax.tree.flatten(dict(batch))
        like = (treedef, *map(_form, leaves))
        if like != self._like:
            structure = jax.tree.structure((params, dict(batch)))
            forms = (*map(_form, jax.tree.leaves(params)), *like[1:])
            self._checks = _checks_of(*self._of, structure, forms)
            self._like = like
        if not self._checks or not all(map(is_here, leaves)):
            return
        rows = np.flatnonzero(host_mask(batch))
        for number, check in self._checks:
            check(np.asarray(leaves[number])[rows], rows)


def _form(leaf: Any) -> tuple[Any, ...]:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf.shape, leaf.dtype, False
    of: Any = jax.typeof(leaf)
    return of.shape, of.dtype, of.weak_type


@functools.lru_cache(maxsize=256)
def _checks_of(
    fold: Callable[..., Any], static: tuple[Any, ...], structure: Any, forms: tuple[Any, ...]
) -> tuple[tuple[int, Check], ...]:
    """The checks of a batch, each with the index of its leaf."""
    found: list[tuple[int, Check]] = []

    def traced(params: Any, batch: Batch) -> Any:
        places = {id(leaf): i for i, leaf in enumerate(jax.tree.leaves(batch))}
        required: list[tuple[Any, Check]] = []
        token = _required.set(required)
        try:
            out = fold(*static, params, batch)
        finally:
            _required.reset(token)
        found.extend((places[id(x)], check) for x, check in required if id(x) in places)
        return out

    like = [jax.ShapeDtypeStruct(s, d, weak_type=weak) for s, d, weak in forms]
    jax.eval_shape(traced, *jax.tree.unflatten(structure, like))
    return tuple({(i, repr(check)): (i, check) for i, check in found}.values())


def host_mask(batch: Batch) -> np.ndarray:
    """The batch's mask as an array of numpy."""
    if "mask" in batch:
        return np.asarray(batch["mask"])
    return np.ones(num_rows(batch["inputs"]), bool)


def is_here(leaf: Any) -> bool:
    """Whether this process holds all of a leaf."""
    return not isinstance(leaf, jax.Array) or leaf.is_fully_addressable
