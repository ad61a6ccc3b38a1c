"""Parameters and data that are split over devices: the numbers of one device, everywhere."""

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tests.helpers import transformed
from tlx.core import sharding

MESH = sharding.make_mesh(points=1, model=2)
TRIED = [
    (kind, name) for kind, found in transformed.ENTRIES.items() for name in found if found[name]
]


def split(leaf):
    """An array split along its last axis of even length."""
    if not hasattr(leaf, "shape"):
        return leaf
    even = [axis for axis, size in enumerate(leaf.shape) if size % 2 == 0]
    leaf = leaf.astype(np.float32) if leaf.dtype == np.float64 else leaf
    spec = PartitionSpec(*[None] * even[-1], "model") if even else PartitionSpec()
    return jax.device_put(leaf, NamedSharding(MESH, spec))


@pytest.mark.parametrize(("kind", "name"), TRIED)
def test_every_function_takes_arrays_that_are_split(kind, name):
    call, arrays = transformed.ENTRIES[kind][name]
    arrays = jax.tree.map(split, arrays)
    expected, found = call(*jax.device_get(arrays)), call(*arrays)
    for left, right in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        if np.asarray(left).dtype.kind in "fc":
            np.testing.assert_allclose(right, left, rtol=1e-4, atol=1e-5)
        else:
            np.testing.assert_array_equal(right, left)
