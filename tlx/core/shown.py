"""A short `repr` for what holds arrays: their values where there are few, else what they are."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from tlx.core import public

__dir__ = public.names(__name__)

FEW = 12
"""An array of at most so many numbers is shown by its values, a collection by its entries."""

MOST = 600
"""Characters of one field."""

MOST_READ = 1_000_000
"""An array of more numbers is not gone through."""

T = TypeVar("T", bound=type)


def short(cls: T) -> T:
    """Gives a named tuple or a dataclass a `repr` of some lines, whatever its fields hold."""
    cls.__repr__ = _of_fields  # type: ignore[assignment]
    return cls


def _of_fields(self: Any) -> str:
    names = getattr(self, "_fields", None) or [f.name for f in dataclasses.fields(self)]
    fields = ", ".join(f"{name}={value(getattr(self, name))}" for name in names)
    return f"{type(self).__name__}({fields})"


def value(x: Any) -> str:
    """A value in some words.

    >>> import numpy as np
    >>> from tlx.core import shown
    >>> shown.value({"loss": np.zeros((3, 20), np.float32), "names": ["a", "b"]})
    "{'loss': float32[3, 20] 0 … 0, 'names': ['a', 'b']}"
    """
    if hasattr(x, "dtype") and hasattr(x, "shape") and not isinstance(x, np.generic):
        return _array(x)
    if isinstance(x, Mapping):
        return _entries([f"{key!r}: {value(y)}" for key, y in list(x.items())[:FEW]], len(x), "{}")
    if isinstance(x, list | tuple) and not hasattr(x, "_fields"):
        return _entries([value(y) for y in x[:FEW]], len(x), "[]" if isinstance(x, list) else "()")
    if isinstance(x, functools.partial):  # of jax.tree_util too, with parameters for arguments
        return f"{type(x).__name__}({getattr(x.func, '__name__', x.func)})"
    if callable(x) and hasattr(x, "__name__"):
        return str(x.__name__)
    text = repr(x)
    return text if len(text) <= MOST else f"<{type(x).__name__}>"


def _entries(shown: list[str], number: int, ends: str) -> str:
    more = f", … {number} in all" if number > len(shown) else ""
    text = ", ".join(shown) + ("," if ends == "()" and number == 1 else "")
    if len(text) > MOST:
        return f"{ends[0]}{number} entries{ends[1]}"
    return f"{ends[0]}{text}{more}{ends[1]}"


def _array(x: Any) -> str:
    kind = f"{x.dtype}{list(x.shape)}"
    if getattr(x.dtype, "kind", "O") not in "biufcUS" or x.size > MOST_READ:
        return kind
    try:
        host = np.asarray(x)
    except (TypeError, RuntimeError):  # one that is traced, or lies with other processes
        return kind
    if host.size <= FEW:
        with np.printoptions(precision=4, suppress=True):
            return np.array2string(host, separator=", ").replace("\n", "")
    finite = host[np.isfinite(host)] if host.dtype.kind in "iuf" else host[:0]
    if not finite.size:
        return kind
    some = "" if finite.size == host.size else f", {host.size - finite.size} not finite"
    return f"{kind} {finite.min():.4g} … {finite.max():.4g}{some}"
