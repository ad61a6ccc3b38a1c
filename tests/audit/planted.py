"""A small net with batch normalisation, its parent, and ten ways in which two of them differ.

`load` is the function that a command line names: `--model=tests.audit.planted:load`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from tlx.adapters import linen
from tlx.core import tree

SIZE, CLASSES, WIDTH, N = 8, 4, 16, 240


class Block(nn.Module):
    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        y = nn.Conv(WIDTH, (3, 3), use_bias=False, name="conv1")(x)
        y = nn.relu(nn.BatchNorm(not train, momentum=0.8, name="norm")(y))
        return x + nn.Conv(WIDTH, (3, 3), use_bias=False, name="conv2")(y)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        x = nn.relu(nn.Conv(WIDTH, (3, 3), name="stem")(x))
        for i in range(1, 4):
            x = Block(name=f"block_{i}")(x, train)
        return nn.Dense(CLASSES, name="head")(x.mean((1, 2)))


def load(path: str) -> Any:
    with np.load(path) as file:
        variables = tree.nested({name: file[name] for name in file.files})
    apply_fn, params = linen.adapt(Net(), variables)
    return apply_fn, params, linen.features(Net())


def load_pairs(path: str) -> Any:
    """The same, of a model that returns two arrays."""
    apply_fn, params, _ = load(path)
    return lambda params, x: (apply_fn(params, x), x), params


def save(path: Any, variables: Any) -> str:
    np.savez(path, **{n: np.asarray(x) for n, x in tree.named_leaves(variables).items()})
    return str(path)


def data(seed: int, number: int = N) -> tuple[np.ndarray, np.ndarray]:
    """Images of gratings whose direction is the class, with noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, number)
    angle = np.pi * labels / CLASSES + rng.normal(0, 0.12, number)
    y, x = np.mgrid[:SIZE, :SIZE]
    phase = rng.uniform(0, 2 * np.pi, number)[:, None, None]
    along = np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y
    images = np.sin(1.6 * along + phase) + rng.normal(0, 0.9, (number, SIZE, SIZE))
    return images[..., None].astype(np.float32), labels.astype(np.int32)


@functools.partial(jax.jit, static_argnums=2)
def _step(state: Any, batch: Any, moving: str, rate: Any) -> Any:
    def loss(params: Any) -> Any:
        variables = {"params": params, "batch_stats": state[1]}
        logits, new = Net().apply(variables, batch[0], True, mutable=["batch_stats"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch[1])
        return losses.mean(), new["batch_stats"]

    gradients, statistics = jax.grad(loss, has_aux=True)(state[0])
    params = {
        name: jax.tree.map(lambda w, g: w - rate * g, part, gradients[name])
        if moving in ("all", name) or (moving.startswith("not ") and moving[4:] != name)
        else part
        for name, part in state[0].items()
    }
    held = {
        name: part if moving in ("all", name) or (moving[:4] == "not " and moving[4:] != name)
        else state[1][name]
        for name, part in statistics.items()
    }  # fmt: skip
    return params, held


def train(variables: Any, seed: int, steps: int, moving: str = "all", rate: float = 0.1) -> Any:
    """The variables after some steps on one set of images, whose order is the seed's."""
    images, labels = data(1)
    rng = np.random.default_rng(seed)
    state = variables["params"], variables["batch_stats"]
    for _ in range(steps):
        rows = rng.integers(0, N, 32)
        state = _step(state, (images[rows], labels[rows]), moving, jnp.float32(rate))
    return {"params": state[0], "batch_stats": state[1]}


def fresh(seed: int) -> Any:
    return Net().init(jax.random.key(seed), jnp.zeros((1, SIZE, SIZE, 1)))


def changed(variables: Any, change: Any) -> Any:
    """The variables with each leaf by `change(name, array)`."""
    return tree.map_named(lambda name, x: change(name, np.array(x)), variables)


def one_block_replaced(a: Any, p: Any, rng: Any) -> Any:
    other = tree.named_leaves(fresh(9))
    return changed(a, lambda n, x: other[n] if "block_2" in n and "conv" in n else x)


def head_only(a: Any, p: Any, rng: Any) -> Any:
    return train(p, 5, 40, "head")


def units_permuted(a: Any, p: Any, rng: Any) -> Any:
    order = rng.permutation(WIDTH)

    def move(name: str, x: Any) -> Any:
        if "block_2/conv1" in name or "block_2/norm" in name:
            return x[..., order]
        return x[:, :, order] if "block_2/conv2" in name else x

    return changed(a, move)


def scaled_with_its_norm(a: Any, p: Any, rng: Any) -> Any:
    def scale(name: str, x: Any) -> Any:
        factor = {"kernel": 3.0, "mean": 3.0, "var": 9.0}.get(name.split("/")[-1], 1.0)
        here = name.endswith(("block_3/conv1/kernel", "block_3/norm/mean", "block_3/norm/var"))
        return x * np.float32(factor) if here else x

    return changed(a, scale)


def low_rank(a: Any, p: Any, rng: Any) -> Any:
    def add(name: str, x: Any) -> Any:
        if "kernel" not in name or "block" not in name:
            return x
        flat = x.reshape(-1, x.shape[-1])
        u, v = rng.standard_normal((len(flat), 2)), rng.standard_normal((2, flat.shape[1]))
        added = (u @ v) * 0.2 * np.linalg.norm(flat) / np.linalg.norm(u @ v)
        return (flat + added).reshape(x.shape).astype(np.float32)

    return changed(a, add)


def unrelated(a: Any, p: Any, rng: Any) -> Any:
    return train(fresh(7), 7, 150)


def noise(a: Any, p: Any, rng: Any) -> Any:
    def add(name: str, x: Any) -> Any:
        if "batch_stats" in name:
            return x
        drawn = rng.standard_normal(x.shape)
        size = np.linalg.norm(x) / max(np.linalg.norm(drawn), 1e-9)
        return (x + 0.01 * size * drawn).astype(np.float32)

    return changed(a, add)


def same(a: Any, p: Any, rng: Any) -> Any:
    return changed(a, lambda _, x: x)


def other_order(a: Any, p: Any, rng: Any) -> Any:
    return train(p, 12, 60, rate=0.03)


def frozen_stage(a: Any, p: Any, rng: Any) -> Any:
    return train(p, 13, 60, "not block_1", rate=0.03)


PLANTS = {
    "one block replaced": (one_block_replaced, "unrelated", "block_2"),
    "head only trained": (head_only, "head_only", "head"),
    "units permuted": (units_permuted, "reordered", "block_2"),
    "one layer scaled with its norm": (scaled_with_its_norm, "scaled", "block_3"),
    "low-rank change": (low_rank, "low_rank", "rank: 2"),
    "unrelated weights": (unrelated, "unrelated", "nothing in common"),
    "noise of 1 %": (noise, "noise", "noise of 1 %"),
    "same weights": (same, "same", "the same weights, to the bit"),
    "other data order": (other_order, "fine_tuned", "trained on"),
    "a frozen stage": (frozen_stage, "frozen", "block_1 was left as before"),
}
"""How b is made of a (trained on from the parent) or of the parent; its finding, and its words."""
