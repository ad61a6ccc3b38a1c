"""The door of what computes on the host: arrays that JAX traces have no values there.

Inside of `jax.jit`, `jax.vmap` and `jax.grad` an array is traced. What reads its values with numpy
fails there with an error from deep within, or gives a number of which JAX knows no derivative.
docs/guides/transformations.md lists what may be called inside.

JAX is not imported here: where nothing else did, nothing is traced.
"""

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Set, ValuesView
from typing import Any, ParamSpec, TypeVar

import numpy as np

from tlx.core import public

__dir__ = public.names(__name__)

P = ParamSpec("P")
R = TypeVar("R")


def only(fn: Callable[P, R]) -> Callable[P, R]:
    """The function, which refuses arrays that are traced: TypeError, at call; and masked ones.

    Of others it computes inside of `jax.jit` what it does outside, while tracing.
    """

    @functools.wraps(fn)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        _refuse_masked(fn.__name__, *args, *kwargs.values())
        jax: Any = sys.modules.get("jax")
        if jax is None:
            return fn(*args, **kwargs)
        if any(map(is_traced, jax.tree.leaves((args, kwargs), is_leaf=_is_read))):
            module = ".".join(part for part in fn.__module__.split(".") if part[0] != "_")
            given = inspect.signature(fn).bind(*args, **kwargs).arguments
            check(f"{module}.{fn.__name__}", **given)
        inside = is_traced(jax.numpy.asarray(0.0))  # of a program, where constants are traced too
        with jax.ensure_compile_time_eval() if inside else contextlib.nullcontext():
            return fn(*args, **kwargs)

    return wrapped


def is_traced(leaf: Any) -> bool:
    """Whether a leaf is an array inside of a transformation, without values."""
    jax: Any = sys.modules.get("jax")
    return jax is not None and isinstance(leaf, jax.core.Tracer)


def check(name: str, **arguments: Any) -> None:
    """Raises TypeError for a traced array in the arguments of a function, with the remedy."""
    jax: Any = sys.modules["jax"]
    for argument, value in arguments.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path({argument: value}, _is_read):
            if is_traced(leaf):
                place = jax.tree_util.keystr(path, simple=True, separator="/")
                raise TypeError(
                    f"expected arrays with values for {name}, which reads them on the host, got a "
                    f"traced one in {place}; call it outside of jax.jit, jax.vmap and jax.grad"
                )


def _refuse_masked(name: str, *arguments: Any) -> None:
    """Raises TypeError for a masked array of numpy, whose mask would be lost."""
    for value in arguments:
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(
                f"expected arrays without masks for {name}, got a masked array "
                f"{list(value.shape)}; drop what is masked (.compressed()), or fill it"
            )
        if isinstance(value, list | tuple):
            _refuse_masked(name, *value)
        elif isinstance(value, Mapping):
            _refuse_masked(name, *value.values())


def _is_read(node: Any) -> bool:
    """Whether it is not a tree of arrays, but is to be read for them."""
    return isinstance(node, Iterator | Set | ValuesView)
