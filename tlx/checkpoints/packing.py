"""Trees as few arrays: many small leaves share one vector for each dtype.

Writing costs a millisecond or two for each array whatever its size, and a Fixup network
has hundreds of scalars; packed, a checkpoint of a small network is written several
times faster. Leaves of `BIG_BYTES` or more stay separate arrays.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import numpy as np

from tlx.core import sharding, tree

BIG_BYTES = 2**20

Layout: TypeAlias = list[dict[str, Any]]
"""For each leaf its "name", "shape", "dtype", and "array" and "offset": where it lies."""


def to_host(values: Any) -> dict[str, np.ndarray]:
    """The leaves by name as numpy arrays that share no memory with the originals."""
    fetched = sharding.to_host(values)
    return {name: np.array(leaf) for name, leaf in tree.named_leaves(fetched).items()}


def pack(leaves: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], Layout]:
    """Arrays to write, and the layout that finds the leaves in them.

    Args:
      leaves: arrays by name.

    Returns:
      Arrays by key, and the layout (JSON values).
    """
    arrays: dict[str, np.ndarray] = {}
    small: dict[str, list[np.ndarray]] = {}
    filled: dict[str, int] = {}
    layout: Layout = []
    for number, (name, leaf) in enumerate(leaves.items()):
        entry = {"name": name, "shape": list(leaf.shape), "dtype": str(leaf.dtype)}
        if leaf.nbytes >= BIG_BYTES:
            key = f"leaf{number}"
            arrays[key] = leaf
            layout.append(entry | {"array": key, "offset": 0})
            continue
        key = f"packed_{leaf.dtype}"
        small.setdefault(key, []).append(leaf.ravel())
        layout.append(entry | {"array": key, "offset": filled.get(key, 0)})
        filled[key] = filled.get(key, 0) + leaf.size
    return arrays | {key: np.concatenate(parts) for key, parts in small.items()}, layout


def unpack(arrays: Mapping[str, np.ndarray], layout: Layout) -> dict[str, np.ndarray]:
    """The leaves by name; the inverse of `pack`.

    >>> unpack(*pack({"a/b": np.arange(3), "c": np.ones((1, 2), np.float32)}))
    {'a/b': array([0, 1, 2]), 'c': array([[1., 1.]], dtype=float32)}
    """
    leaves = {}
    for entry in layout:
        size = int(np.prod(entry["shape"], dtype=np.int64))
        flat = np.asarray(arrays[entry["array"]]).ravel()
        part = flat[entry["offset"] : entry["offset"] + size]
        leaves[entry["name"]] = part.reshape(entry["shape"]).astype(entry["dtype"], copy=False)
    return leaves


def digest(leaves: Mapping[str, np.ndarray]) -> str:
    """The sha256 (hex) of all leaves: names, dtypes, shapes and bytes, in the order of names."""
    found = hashlib.sha256()
    for name in sorted(leaves):
        leaf = np.ascontiguousarray(leaves[name])
        found.update(json.dumps([name, str(leaf.dtype), np.shape(leaves[name])]).encode())
        found.update(leaf.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def signed(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON values with the sha256 of all others, "sha256", by which damage is seen."""
    own = json.loads(json.dumps({name: x for name, x in values.items() if name != "sha256"}))
    text = json.dumps(own, sort_keys=True)
    return {**own, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def non_finite(leaves: Mapping[str, np.ndarray]) -> list[str]:
    """Names of the floating leaves that hold NaN or infinity."""
    return [
        name
        for name, leaf in leaves.items()
        if jax.numpy.issubdtype(leaf.dtype, np.inexact) and not np.isfinite(leaf).all()
    ]
