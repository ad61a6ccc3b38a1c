"""The entries of leaves on the host in float64; both parts of complex ones."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tlx.core import public

__dir__ = public.names(__name__)


def blocks(leaves: Sequence[Any], most: int) -> Iterator[Float[np.ndarray, "T entries"]]:
    """One leaf of T models in blocks of at most `most` entries; no block for an empty leaf."""
    flat = [_entries(leaf) for leaf in leaves]
    step = max(1, most // len(flat))
    for start in range(0, flat[0].size, step):
        yield np.stack([row[start : start + step] for row in flat]).astype(np.float64)


def from_entries(entries: Float[np.ndarray, " n"], like: Any) -> Array:
    """A leaf with the given entries, in the shape and dtype of another."""
    dtype = jnp.result_type(like)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        entries = entries.astype(np.float64).view(np.complex128)
    return jnp.asarray(entries.reshape(np.shape(like)).astype(dtype))


def _entries(leaf: Any) -> np.ndarray:
    flat = np.ascontiguousarray(leaf).reshape(-1)
    return flat.view(flat.real.dtype) if np.iscomplexobj(flat) else flat
