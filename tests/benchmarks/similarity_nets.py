"""The models, layers and images on which similarity is timed."""

import re
from collections import OrderedDict
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from tests.helpers import torch_names
from tlx import models
from tlx.adapters import linen
from tlx.analyses.features.similarity import cka_matrix
from tlx.core import streams, tree

NETS = {
    "small": {"name": "fixup_resnet", "width": 8, "stage_sizes": (1, 1, 1), "stem": "small"},
    "fixup_resnet18": {"name": "fixup_resnet18"},
}
CHANNELS = {"small": 1, "fixup_resnet18": 3}


class Setting:
    """Two models of a net with random weights, and random images in batches.

    `layers` is "named", the layers that the model itself names, or "inner": the first
    convolution, both convolutions and the output of every block, and the head, which hooks on
    the PyTorch net also reach.
    """

    def __init__(self, net: str, layers: str, images: int, batch: int) -> None:
        self.module = models.make(num_classes=10, head_init="uniform", **NETS[net])
        self.batch = batch
        self.images = normal(0, images, 32, 32, CHANNELS[net])
        self.stream = streams.from_arrays(self.images, batch_size=batch)
        self.a, self.b = (variables(self.module, self.images, seed) for seed in range(2))
        self.paths = inner_paths(self.module.stage_sizes)
        inner = captured(self.module, self.paths)
        self.features = inner if layers == "inner" else linen.features(self.module)
        num_layers = len(jax.eval_shape(self.features, self.a, self.images[:1]))
        self.facts = {"net": net, "layers": num_layers, "images": images, "batch": batch}
        self.facts["device"] = jax.devices()[0].device_kind

    def cka(self, **options):
        return cka_matrix.cka_matrix(
            self.features, self.a, self.features, self.b, self.stream, **options
        )


def inner_paths(stage_sizes: tuple[int, ...]) -> OrderedDict[str, str]:
    """Of the layers of "inner": PyTorch's name to the path of our module."""
    paths = OrderedDict(conv1="stem/conv")
    for stage, size in enumerate(stage_sizes, start=1):
        for block in range(size):
            theirs, ours = f"layer{stage}.{block}", f"stage{stage}_block{block + 1}"
            paths |= {f"{theirs}.{conv}": f"{ours}/{conv}" for conv in ("conv1", "conv2")}
            paths[theirs] = ours
    paths["fc"] = "head"
    return paths


def captured(module, paths: Mapping[str, str]):
    """A feature function: by the keys of `paths`, the layers and outputs of submodules there."""

    def features(variables, inputs):
        named, state = module.apply(
            variables, inputs, method="features", capture_intermediates=True,
            mutable=["intermediates"],
        )  # fmt: skip
        inner = state["intermediates"]
        return OrderedDict(
            (name, named[p] if p in named else torch_names.leaf(inner, f"{p}/__call__")[0])
            for name, p in paths.items()
        )

    return features


def published_paths(stage_sizes: tuple[int, ...], which: str) -> OrderedDict[str, str]:
    """Torchvision's name of a layer to ours; "18" are the convolutions of the blocks, conv1, fc."""
    paths = OrderedDict(conv1="stem/conv", bn1="stem/norm", relu="stem", maxpool="stem")
    for stage, size in enumerate(stage_sizes, start=1):
        for block in range(size):
            theirs, ours = f"layer{stage}.{block}", f"stage{stage}_block{block + 1}"
            inner = {"conv1": "conv1", "bn1": "norm1", "conv2": "conv2", "bn2": "norm2"}
            paths |= {f"{theirs}.{name}": f"{ours}/{path}" for name, path in inner.items()}
            if stage > 1 and block == 0:
                paths[f"{theirs}.downsample.0"] = f"{ours}/downsample"
                paths[f"{theirs}.downsample.1"] = f"{ours}/downsample_norm"
                paths[f"{theirs}.downsample"] = f"{ours}/downsample_norm"
            paths |= {f"{theirs}.relu": ours, theirs: ours}
        paths[f"layer{stage}"] = f"stage{stage}_block{size}"
    paths |= {"avgpool": "pooled", "fc": "logits"}
    if which == "all":
        return paths
    wanted = re.compile(r"conv1|fc|layer\d\.\d\.conv\d")
    return OrderedDict((name, path) for name, path in paths.items() if wanted.fullmatch(name))


def variables(module, images: np.ndarray, seed: int):
    """Random variables of a Fixup ResNet in which no layer is constant, as it is at the start."""
    like = jax.eval_shape(module.init, jax.random.key(0), images[:1])
    rng = np.random.default_rng(seed)

    def leaf(name: str, value: jax.ShapeDtypeStruct) -> jax.Array:
        noise = rng.standard_normal(value.shape)
        if len(value.shape) > 1:
            noise /= np.sqrt(np.prod(value.shape[:-1]))
        else:
            noise = name.endswith("scale") + 0.1 * noise
        return jnp.asarray(noise, jnp.float32)

    return dict(tree.map_named(leaf, like))


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)
