"""The short repr of what holds arrays."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx.core import shown


@shown.short
class Result(NamedTuple):
    values: Any
    names: tuple[str, ...] = ()


@shown.short
@dataclasses.dataclass(frozen=True)
class Held:
    inner: Any


SHOWN = {
    "few": (jnp.arange(3.0), "[0., 1., 2.]"),
    "one": (jnp.float32(0.5), "0.5"),
    "many": (np.linspace(-1, 2, 90, dtype=np.float32).reshape(30, 3), "float32[30, 3] -1 … 2"),
    "not finite": (np.array([np.nan] * 3 + [1.0] * 20), "float64[23] 1 … 1, 3 not finite"),
    "none finite": (np.full(20, np.nan), "float64[20]"),
    "keys": (jax.random.split(jax.random.key(0), 3), "key<fry>[3]"),
    "huge": (np.zeros(2_000_000, bool), "bool[2000000]"),
    "number": (0.25, "0.25"),
    "pair": ((1, "a"), "(1, 'a')"),
    "single": (("a",), "('a',)"),
    "dict": ({"a": np.zeros(20)}, "{'a': float64[20] 0 … 0}"),
    "long": (list(range(20)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, … 20 in all]"),
    "longest": ([10**99] * 12, "[12 entries]"),
    "function": (jnp.sin, "sin"),
    "path": (jax.tree_util.Partial(jnp.add, np.zeros((99, 99))), "Partial(add)"),
    "nested": (Held(np.zeros(20)), "Held(inner=float64[20] 0 … 0)"),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_value_in_some_words(name):
    given, expected = SHOWN[name]
    assert shown.value(given) == expected
    assert repr(Result(given)) == f"Result(values={expected}, names=())"


def test_a_traced_value_is_its_type():
    seen = []
    jax.jit(lambda x: seen.append(repr(Result(x))))(jnp.ones(3))
    assert seen == ["Result(values=float32[3], names=())"]
