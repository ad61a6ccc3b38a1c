"""A similarity measure in two parts, so that a layer is prepared once for all its pairs."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float

from tlx.analyses.features.similarity import _features
from tlx.core import undefined


class Comparison(NamedTuple):
    """A measure of two sets of features on the same n examples.

    The measure of X and Y is `compare(prepare(X), prepare(Y))`. Builders of comparisons are
    cached, so that equal options give the same object and share compiled code.

    Attributes:
      prepare: `(features [n, D]) -> prepared`, a pytree of arrays. Pure, traceable.
      compare: `(prepared_x, prepared_y) -> float scalar`. Pure, traceable.
      reorder: `(prepared, order int [n]) -> prepared`: what `prepare(features[order])` gives,
        without computing it again.
      least: the smallest number of examples for which the measure is defined.
      name: its name in messages.
      from_moments: how it is computed from second moments, a `_second_moments.FromMoments`;
        None for a measure that needs the examples.
    """

    prepare: Callable[[Array], Any]
    compare: Callable[[Any, Any], Array]
    reorder: Callable[[Any, Array], Any]
    least: int
    name: str
    from_moments: Any = None


@undefined.allowed
def between(comparison: Comparison, x: Any, y: Any) -> Float[Array, ""]:
    """The measure of two sets of features [n, ...] on the same examples, each flattened.

    Raises:
      ValueError: for lengths that differ or fewer than `least` examples. At call, also while
        tracing.
    """
    rows_x, rows_y = _features.matrices(x, y, least=comparison.least, name=comparison.name)
    return _between(comparison, rows_x, rows_y)


@functools.partial(jax.jit, static_argnums=0)
def _between(comparison: Comparison, x: Array, y: Array) -> Array:
    return comparison.compare(comparison.prepare(x), comparison.prepare(y))


def rows(prepared: Any, order: Array) -> Any:
    """`reorder` where every array of the prepared form has one row an example."""
    return jax.tree.map(lambda a: a[order], prepared)


def pairs(prepared: Any, order: Array) -> Any:
    """`reorder` where every array of the prepared form is [n, n]."""
    return jax.tree.map(lambda a: a[order][:, order], prepared)
