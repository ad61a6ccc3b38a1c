"""Errors that name what differs, where, what was expected and what to do."""

import difflib
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """The message for a name that is not in a registry: the nearest, then all known ones.

    >>> unknown("model", "resnet81", ["resnet18", "resnet50"])
    "unknown model 'resnet81'; did you mean 'resnet18'? Known: resnet18, resnet50"
    """
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"unknown {kind} {name!r}{hint} Known: {', '.join(known)}"


def same_structure(
    a: Any, b: Any, names: tuple[str, str] = ("params_a", "params_b"), *, dtype: bool = True
) -> None:
    """Raises unless two pytrees have the same leaves, shapes and dtypes.

    Args:
      a: pytree of arrays or `jax.ShapeDtypeStruct`.
      b: pytree of arrays or `jax.ShapeDtypeStruct`.
      names: what to call the two in the message.
      dtype: whether dtypes must agree too, as JAX holds them: float64 of numpy, and Python's
        floats, are float32 unless jax_enable_x64 is set.

    Raises:
      ValueError: listing every leaf that is in one tree only or differs, by its path.
        At call, also while tracing: only shapes and dtypes are read.
    """
    left, right = _described(a, dtype), _described(b, dtype)
    lines = [
        f"  {path}: {left.get(path, 'missing')} in {names[0]}, "
        f"{right.get(path, 'missing')} in {names[1]}"
        for path in dict.fromkeys([*left, *right])
        if left.get(path) != right.get(path)
    ]
    if lines:
        raise ValueError(
            f"{names[0]} and {names[1]} must have the same leaves, but {len(lines)} of "
            f"{len(left | right)} differ:\n" + "\n".join(lines) + "\nRestore both from the same "
            "model definition, or select the modules that they share (tlx.core.labels.select)."
        )
    kinds: tuple[Any, Any] = (jax.tree.structure(a), jax.tree.structure(b))
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"{names[0]} and {names[1]} hold the same leaves in different containers:\n"
            f"  {names[0]}: {kinds[0]}\n  {names[1]}: {kinds[1]}\n"
            "Convert one with jax.tree.unflatten(jax.tree.structure(other), jax.tree.leaves(tree))."
        )


def _described(tree: Any, dtype: bool) -> dict[str, str]:
    from tlx.core.tree import named_leaves  # tree imports this module

    out = {}
    for path, leaf in named_leaves(tree).items():
        if not hasattr(leaf, "shape"):
            leaf = np.asarray(leaf)
        shape = "×".join(map(str, leaf.shape)) or "scalar"
        kind = jax.dtypes.canonicalize_dtype(leaf.dtype, allow_extended_dtype=True)
        out[path] = f"{kind} {shape}" if dtype else shape
    return out


def is_inexact(leaf: Any) -> bool:
    """Whether a leaf holds floating or complex numbers, so that it can be interpolated."""
    dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
    return bool(jax.numpy.issubdtype(dtype, np.inexact))


def same_integers(a: Any, b: Any) -> None:
    """Raises unless the leaves that are not floating are equal, naming those that are not."""
    from tlx.core import tree

    right = tree.named_leaves(b)
    differ = [
        name
        for name, x in tree.named_leaves(a).items()
        if not is_inexact(x) and not _equal(x, right[name])
    ]
    if differ:
        raise ValueError(
            "leaves that are not floating cannot lie on a path unless they are equal at its ends; "
            f"these differ: {', '.join(differ)}. Keep counters and random keys out of the "
            "parameters, or give both ends the same value."
        )


def _equal(x: Any, y: Any) -> bool:
    if x is y or isinstance(x, jax.core.Tracer) or isinstance(y, jax.core.Tracer):
        return True  # a traced value cannot be read; the ends' leaf of the first is kept
    if jax.numpy.issubdtype(jax.numpy.asarray(x).dtype, jax.dtypes.prng_key):
        x, y = jax.random.key_data(x), jax.random.key_data(y)
    return bool((jax.numpy.asarray(x) == jax.numpy.asarray(y)).all())
