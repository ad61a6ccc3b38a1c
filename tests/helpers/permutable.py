"""Nets whose hidden units can be permuted, with the groups that the mathematics says."""

import functools
import itertools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tests.helpers import tiny_models
from tlx import models
from tlx.adapters import linen as linen_adapter


class Net(NamedTuple):
    """A net; `groups` are (size, size of the group that it is nested in or 0), sorted."""

    apply_fn: Any
    params: Any
    inputs: Any
    groups: tuple[tuple[int, int], ...]


def fill(like, seed=0):
    """Random leaves of given shapes, on the host: kernels of unit gain, vectors positive."""
    rng = np.random.default_rng(seed)

    def leaf(x):
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return np.zeros(x.shape, x.dtype)
        if x.size <= max(x.shape, default=1):
            return (0.2 + rng.random(x.shape)).astype(x.dtype)
        fan_in = np.prod(x.shape) / max(x.shape)
        return (rng.standard_normal(x.shape) / np.sqrt(fan_in)).astype(x.dtype)

    return jax.tree.map(leaf, like)


def normal(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def mlp_params(*widths, seed=0, dtype=jnp.float32):
    shapes = {
        f"layer{i}": {
            "kernel": jax.ShapeDtypeStruct(shape, dtype),
            "bias": jax.ShapeDtypeStruct(shape[1:], dtype),
        }
        for i, shape in enumerate(itertools.pairwise(widths))
    }
    return fill(shapes, seed)


def mlp(params, inputs):
    *hidden, last = params.values()
    for layer in hidden:
        inputs = jax.nn.relu(inputs @ layer["kernel"] + layer["bias"][None])
    return inputs @ last["kernel"] + last["bias"][None]


def linen(module, inputs, *groups, seed=0, **options):
    shapes = jax.eval_shape(functools.partial(module.init, **options), jax.random.key(0), inputs)
    apply_fn, params = linen_adapter.adapt(module, fill(shapes, seed), **options)
    return Net(apply_fn, params, inputs, groups)


class ConvNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.max_pool(nn.relu(nn.Conv(6, (3, 3))(x)), (2, 2), (2, 2))
        x = nn.relu(nn.Conv(4, (3, 3))(x))
        x = nn.tanh(nn.Dense(5)(x.reshape(len(x), -1)))
        return nn.Dense(3)(x)


class GroupNormNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.GroupNorm(2)(nn.Conv(6, (3, 3))(x)))
        x = nn.relu(nn.GroupNorm(4)(nn.Conv(8, (3, 3))(x)))
        return nn.Dense(3)(x.mean((1, 2)))


class ResidualGroupNormNet(nn.Module):
    """One stream of 3 groups of 4 channels, whose kernels have it on both sides."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(12, (3, 3))(x)
        for _ in range(2):
            x = x + nn.Conv(12, (3, 3))(nn.relu(nn.GroupNorm(3)(x)))
        return nn.Dense(3)(x.mean((1, 2)))


class GroupedNet(nn.Module):
    """A depthwise convolution of multiplier 2, and a grouped one of 3 · 2 to 3 · 4 channels."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(3, (1, 1))(x))
        x = nn.relu(nn.Conv(6, (3, 3), feature_group_count=3)(x))
        x = nn.relu(nn.Conv(6, (1, 1))(x))
        x = nn.relu(nn.Conv(12, (3, 3), feature_group_count=3)(x))
        return nn.Dense(3)(x.mean((1, 2)))


class AttentionNet(nn.Module):
    """A transformer block; the stream of 8 has its own group."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8)(x)
        x = x + nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=6)(nn.LayerNorm()(x))
        x = x + nn.Dense(8)(nn.gelu(nn.Dense(10)(nn.LayerNorm()(x))))
        return nn.Dense(3)(x.mean(1))


class MixerNet(nn.Module):
    """Units that mix the 5 tokens, for each of the 8 channels of the stream; the first is read."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8)(x)
        x = x + nn.Dense(5)(nn.gelu(nn.Dense(7)(x.swapaxes(1, 2)))).swapaxes(1, 2)
        return nn.Dense(3)(x[:, 0])


class SharedNormNet(nn.Module):
    """A layer and a batch norm that serve twice."""

    @nn.compact
    def __call__(self, x):
        dense, norm = nn.Dense(8), nn.BatchNorm(use_running_average=True)
        x = nn.Dense(8)(x)
        for _ in range(2):
            x = nn.tanh(norm(dense(x)))
        return nn.Dense(3)(x)


def attention_by_reshape(params, inputs):
    """Heads by splitting the features of dense layers: 2 heads of 3."""
    q, k, v = ((inputs @ params[name]).reshape(*inputs.shape[:2], 2, 3) for name in ("q", "k", "v"))
    weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k))
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(*inputs.shape[:2], 6)
    return mixed @ params["out"]


class Lookup(nn.Module):
    """Tokens by a table that also gives the logits: one group of 6, in embeddings."""

    @nn.compact
    def __call__(self, tokens):
        table = nn.Embed(7, 6)
        x = table(tokens)
        x = x + nn.Dense(6)(nn.relu(nn.Dense(5)(x)))
        return table.attend(x)


def recurrent(params, inputs):
    """A square kernel that serves twice: its units on both of its axes."""
    x = jnp.tanh(inputs @ params["in"])
    for _ in range(2):
        x = jnp.tanh(x @ params["square"])
    return x @ params["out"]


def concatenated(params, inputs):
    """The two halves that are put side by side are held still; the layer after is not."""
    halves = [jax.nn.relu(inputs @ params[name]) for name in ("left", "right")]
    x = jax.nn.relu(jnp.concatenate(halves, 1) @ params["kernel"])
    return x @ params["out"]


def low_rank(params, inputs):
    """A kernel that is a product: the 3 ranks are units too, as are the 5 hidden."""
    return jax.nn.relu(inputs @ (params["u"] @ params["v"])) @ params["out"]


def arrays(seed=0, **shapes):
    return fill({n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in shapes.items()}, seed)


def small_resnet(name, block):
    """Width 8, one block and two: the stream of each stage, and the inside of each block."""
    basic = (8, 8, 16, 16, 16)  # the first stage adds to what the stem gives out
    bottleneck = (8, 8, 8, 16, 16, 16, 16, 32, 64)  # streams of 32 and 64, and the stem's 8
    groups = tuple((n, 0) for n in (basic if block == "basic" else bottleneck))
    model = models.make(name, num_classes=5, width=8, stage_sizes=(1, 2), stem="small", block=block)
    return linen(model, normal(3, 8, 8, 1), *groups, train=False)


def framework(name):
    tiny = tiny_models.make(name, 0)
    return Net(tiny.apply_fn, tiny.params, tiny_models.make_inputs(6)[0], ((8, 0),))


IMAGES, TOKENS = normal(3, 6, 6, 2), normal(3, 5, 4)
SQUARE = {"in": (4, 6), "square": (6, 6), "out": (6, 3)}
HEADS = {"q": (4, 6), "k": (4, 6), "v": (4, 6), "out": (6, 3)}
HALVES = {"left": (4, 5), "right": (4, 5), "kernel": (10, 6), "out": (6, 3)}

ZOO = {
    "mlp": lambda: Net(mlp, mlp_params(4, 8, 6, 3), normal(5, 4), ((6, 0), (8, 0))),
    "conv": lambda: linen(ConvNet(), IMAGES, (4, 0), (5, 0), (6, 0)),
    "group_norm": lambda: linen(GroupNormNet(), IMAGES, (2, 0), (2, 4), (3, 2), (4, 0)),
    "residual_group_norm": lambda: linen(ResidualGroupNormNet(), IMAGES, (3, 0), (4, 3)),
    # depthwise: 3 units, 2 in each; the pointwise one's 6 are 3 groups of 2, then 3 of 4
    "grouped": lambda: linen(GroupedNet(), IMAGES, (2, 3), (2, 3), (3, 0), (3, 0), (4, 3)),
    # stream, hidden, heads; query-key and value dimensions in each head
    "attention": lambda: linen(AttentionNet(), TOKENS, (2, 0), (3, 2), (3, 2), (8, 0), (10, 0)),
    "mixer": lambda: linen(MixerNet(), TOKENS, (7, 0), (8, 0)),
    "shared_norm": lambda: linen(SharedNormNet(), normal(5, 4), (8, 0)),
    "attention_by_reshape": lambda: Net(
        attention_by_reshape, arrays(**HEADS), TOKENS, ((2, 0), (3, 2), (3, 2))
    ),
    "lookup": lambda: linen(Lookup(), np.arange(10).reshape(2, 5) % 7, (5, 0), (6, 0)),
    "recurrent": lambda: Net(recurrent, arrays(**SQUARE), normal(5, 4), ((6, 0),)),
    "concatenated": lambda: Net(concatenated, arrays(**HALVES), normal(5, 4), ((6, 0),)),
    "low_rank": lambda: Net(
        low_rank, arrays(u=(4, 3), v=(3, 5), out=(5, 3)), normal(5, 4), ((3, 0), (5, 0))
    ),
    "fixup_basic": lambda: small_resnet("fixup_resnet", "basic"),
    "fixup_bottleneck": lambda: small_resnet("fixup_resnet", "bottleneck"),
    "resnet_basic": lambda: small_resnet("resnet", "basic"),
    "resnet_bottleneck": lambda: small_resnet("resnet", "bottleneck"),
    **{name: functools.partial(framework, name) for name in tiny_models.FRAMEWORKS},
}
"""Name to a function that builds a `Net`."""
