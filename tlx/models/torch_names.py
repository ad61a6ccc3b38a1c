"""PyTorch's names and layouts of our models' weights, both ways, every tensor accounted for.

ResNets have the names of torchvision (and timm), MobileNetV2 those of torchvision, Fixup ResNets
those of their authors.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tlx.core import tree
from tlx.models.fixup_resnet import FixupResNet
from tlx.models.mobilenet_v2 import MobileNetV2
from tlx.models.resnet import ResNet

FIRST = ("conv1.weight", "features.0.0.weight")
"""The kernels that read images."""

HEADS = ("fc.", "classifier.1.")
"""How the classifiers' names begin."""

COUNTER = "num_batches_tracked"
"""What PyTorch's batch normalisation counts and we do not."""

_LEAVES = {"kernel": "weight", "mean": "running_mean", "var": "running_var"}
_NET = {"stem": "", "pooled": "", "head": "fc"}
_SHOWN = 20


def torch_name(module: nn.Module, leaf: str) -> str:
    """PyTorch's name of a leaf, "params/stage1_block1/conv1/kernel" or of "batch_stats".

    Raises:
      ValueError: if the model is of a family without such names.
    """
    _, top, *path, last = leaf.split("/")
    if isinstance(module, MobileNetV2):
        return _mobilenet(module, top, path, last)
    if not isinstance(module, ResNet | FixupResNet):
        raise ValueError(
            f"{type(module).__name__} has no PyTorch names here; known: FixupResNet, MobileNetV2, "
            "ResNet"
        )
    if top.startswith("stage"):
        stage, block = top.removeprefix("stage").split("_block")
        prefix = f"layer{stage}.{int(block) - 1}"
    else:
        prefix = _NET[top]
    is_norm = bool(path) and "norm" in path[0]
    if top == "stem" and path:
        path = ["bn1" if is_norm else "conv1"]
    elif path:
        path = [_part(path[0], isinstance(module, ResNet))]
    if is_norm and last == "scale":
        last = "weight"
    return ".".join(filter(None, (prefix, *path, _LEAVES.get(last, last))))


def _mobilenet(module: MobileNetV2, top: str, path: list[str], last: str) -> str:
    """Blocks are features.1 and so on; in them each layer but the last is a pair of its own."""
    is_norm = bool(path) and "norm" in path[0]
    if is_norm and last == "scale":
        last = "weight"
    last = _LEAVES.get(last, last)
    if top == "head":
        return f"classifier.1.{last}"
    number = module.module_names.index(top)
    if top in ("stem", "last"):
        return f"features.{number}.{int(is_norm)}.{last}"
    layers = ["expand", "depthwise", "project"]
    stage = int(top.removeprefix("stage").partition("_")[0])
    if module.stages[stage - 1][0] == 1:
        layers.remove("expand")
    place = layers.index(path[0].removesuffix("_norm"))
    if place == len(layers) - 1:
        return f"features.{number}.conv.{place + is_norm}.{last}"
    return f"features.{number}.conv.{place}.{int(is_norm)}.{last}"


def _part(name: str, is_resnet: bool) -> str:
    if name == "downsample":
        return "downsample.0" if is_resnet else name
    if name == "downsample_norm":
        return "downsample.1"
    return name.replace("norm", "bn")


def shapes(module: nn.Module, channels: int = 3) -> dict[str, Any]:
    """The model's leaves by name, "params/…" and "batch_stats/…", as shapes and dtypes."""
    inputs = jax.ShapeDtypeStruct((1, 64, 64, channels), jnp.float32)
    return tree.named_leaves(jax.eval_shape(module.init, jax.random.key(0), inputs))


def from_torch(
    module: nn.Module, tensors: Mapping[str, np.ndarray], *, head: str = "keep"
) -> tuple[dict[str, Any], dict[str, str]]:
    """A model's variables from PyTorch's tensors.

    Args:
      module: a model.
      tensors: PyTorch's state dict; "module." before every name is taken off.
      head: "keep", or "drop": leave the file's classifier out, and the model's too.

    Returns:
      {"params": …, maybe "batch_stats": …} of float32 numpy arrays in our layouts, and of each
      tensor that was left out the reason.

    Raises:
      ValueError: listing every tensor that is missing, extra or of another shape.
    """
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    first = next((np.shape(tensors[name]) for name in FIRST if name in tensors), ())
    leaves = shapes(module, first[1] if len(first) == 4 else 3)
    wanted = {torch_name(module, leaf): (leaf, like) for leaf, like in leaves.items()}
    skipped = {name: "a counter" for name in tensors if name.endswith(COUNTER)}
    if head == "drop":
        wanted = {name: pair for name, pair in wanted.items() if not name.startswith(HEADS)}
        skipped |= {name: "the head" for name in tensors if name.startswith(HEADS)}
    given = {name: value for name, value in tensors.items() if name not in skipped}
    problems = [f"missing: {n} ({leaf})" for n, (leaf, _) in wanted.items() if n not in given]
    problems += [f"extra: {n} {list(v.shape)}" for n, v in given.items() if n not in wanted]
    for name in wanted.keys() & given.keys():
        leaf, like = wanted[name]
        expected = to_layout(np.empty(like.shape, np.bool_), torch=True).shape
        if given[name].shape != expected:
            found = given[name].shape
            problems.append(f"shape: {name} ({leaf}): expected {list(expected)}, got {list(found)}")
    if problems:
        lines = "".join(f"\n  {line}" for line in sorted(problems)[:_SHOWN])
        more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ValueError(
            f"{len(problems)} tensors do not fit {type(module).__name__}; is it the model that the "
            f"file was saved from, with the same width, depth and classes?{lines}{more}"
        )
    values = {
        leaf: to_layout(np.asarray(given[name], np.float32), torch=False)
        for name, (leaf, _) in wanted.items()
    }
    return tree.nested(values), skipped


def to_torch(module: nn.Module, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """PyTorch's state dict of a model's variables, the inverse of `from_torch`.

    Batch normalisation's counters are there as 0, so that strict loading works.
    """
    leaves = tree.named_leaves(variables)
    found = {
        torch_name(module, leaf): np.asarray(to_layout(np.asarray(value), torch=True), order="C")
        for leaf, value in leaves.items()
    }
    means = [name for name in found if name.endswith("running_mean")]
    counters = {name.replace("running_mean", COUNTER): np.zeros((), np.int64) for name in means}
    return found | counters


def to_layout(value: np.ndarray, *, torch: bool) -> np.ndarray:
    """A weight with its axes as PyTorch has them, or as we do.

    Convolutions are [out, in, height, width] there and [height, width, in, out] here, matrices
    [out, in] and [in, out]; other leaves are the same.
    """
    if value.ndim == 4:
        return value.transpose((3, 2, 0, 1) if torch else (2, 3, 1, 0))
    return value.T if value.ndim == 2 else value
