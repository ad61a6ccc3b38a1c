"""The names of PyTorch's Fixup ResNets (tests/golden/fixup_resnet18_seed0.npz) and ours."""

import math
import re
import zlib
from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np

from tlx import models
from tlx.core import tree
from tlx.models.torch_names import to_layout

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


def reference_params(torch_names: Iterable[str], like: Any, seed: int) -> dict[str, Any]:
    """The reference's weights of a seed in our tree; `like` gives the shapes in our axes."""
    leaves = {}
    for name in torch_names:
        shape = to_layout(np.empty(leaf(like, ours(name)).shape, np.bool_), torch=True).shape
        leaves[ours(name)] = jnp.asarray(to_layout(fill(name, shape, seed), torch=False))
    return tree.nested(leaves)


def reference_model() -> Any:
    """The reference's net: Fixup ResNet-18 with 10 classes."""
    return models.make("fixup_resnet18", num_classes=10)
