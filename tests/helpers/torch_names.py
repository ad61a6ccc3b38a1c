"""The names of PyTorch's Fixup ResNets (tests/golden/fixup_resnet18_seed0.npz) and ours."""

import math
import re
import zlib
from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np

from tlx import models

NET = {
    "conv1.weight": "stem/conv/kernel",
    "bias1": "stem/bias1",
    "bias2": "pooled/bias2",
    "fc.weight": "head/kernel",
    "fc.bias": "head/bias",
}


def ours(torch_name: str) -> str:
    """Our leaf name of a PyTorch name.

    >>> ours("layer2.0.conv1.weight")
    'stage2_block1/conv1/kernel'
    """
    if torch_name in NET:
        return NET[torch_name]
    found = re.fullmatch(r"layer(\d+)\.(\d+)\.(\w+)(\.weight)?", torch_name)
    assert found, torch_name
    stage, block, leaf, weight = found.groups()
    return f"stage{stage}_block{int(block) + 1}/{leaf}" + ("/kernel" if weight else "")


def to_ours(value: np.ndarray) -> np.ndarray:
    """A PyTorch weight in our axes: OIHW to HWIO, [out, in] to [in, out]."""
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    return value.T if value.ndim == 2 else value


def to_torch(value: np.ndarray) -> np.ndarray:
    """The inverse of `to_ours`."""
    if value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    return value.T if value.ndim == 2 else value


def fill(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The reference's weights, a pure function of PyTorch's name and shape; float32."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    value = rng.standard_normal(shape)
    if len(shape) > 1:
        value = value / math.sqrt(math.prod(shape[1:]))
    else:
        value = 1 + 0.1 * value if name.endswith("scale") else 0.1 * value
    return value.astype(np.float32)


def leaf(tree: Any, name: str) -> Any:
    """The leaf of a nested dict by its name "a/b/c"."""
    for key in name.split("/"):
        tree = tree[key]
    return tree


def nested(leaves: dict[str, Any]) -> dict[str, Any]:
    """The nested dict of leaves by name: the inverse of `leaf`."""
    tree: dict[str, Any] = {}
    for name, value in leaves.items():
        *path, last = name.split("/")
        node = tree
        for key in path:
            node = node.setdefault(key, {})
        node[last] = value
    return tree


def reference_params(torch_names: Iterable[str], like: Any, seed: int) -> dict[str, Any]:
    """The reference's weights of a seed in our tree; `like` gives the shapes in our axes."""
    leaves = {}
    for name in torch_names:
        shape = to_torch(np.empty(leaf(like, ours(name)).shape, np.bool_)).shape
        leaves[ours(name)] = jnp.asarray(to_ours(fill(name, shape, seed)))
    return nested(leaves)


def reference_model() -> Any:
    """The reference's net: Fixup ResNet-18 with 10 classes."""
    return models.make("fixup_resnet18", num_classes=10)
