"""One small net in each framework, with dropout and batch statistics, through its adapter.

All are Dense(8) → batch norm → relu → dropout → Dense(3) on inputs [B, 5], with batch
statistics that differ from the initial ones, so that a model in training mode, or one whose
statistics are lost, gives other numbers.
"""

import functools
from typing import Any, NamedTuple

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

from tlx.adapters import equinox as equinox_adapter
from tlx.adapters import haiku as haiku_adapter
from tlx.adapters import linen as linen_adapter
from tlx.adapters import nnx as nnx_adapter
from tlx.core import tree

FRAMEWORKS = ("linen", "nnx", "equinox", "haiku")
INPUTS, WIDTH, CLASSES = 5, 8, 3


class Tiny(NamedTuple):
    """A net; `layers` are its hidden layer, its norm and its output by the framework's names.

    `features(layers)` makes the feature function; `roles` maps the hidden kernel, hidden bias,
    norm's scale, offset, mean and variance, and the head's kernel and bias to leaf names.
    """

    apply_fn: Any
    params: Any
    features: Any
    layers: tuple[str, str, str]
    roles: dict[str, str]


def make(framework: str, seed: int) -> Tiny:
    return _MAKERS[framework](seed)


def make_inputs(num_examples: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((num_examples, INPUTS)).astype(np.float32)
    return inputs, rng.integers(0, CLASSES, num_examples)


def module_of(tiny: Tiny, name: str) -> str:
    """The module of a leaf: "hidden", "norm" or "head"."""
    roles = {leaf: role for role, leaf in tiny.roles.items()}
    return roles.get(name, "norm/buffer").split("/")[0]


def reference(tiny: Tiny, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """The three layers' outputs in float64 numpy, from the leaves by their roles."""
    leaves = tree.named_leaves(tiny.params)
    p = {role: np.asarray(leaves[name], np.float64) for role, name in tiny.roles.items()}
    for role in ("hidden/kernel", "head/kernel"):
        p[role] = p[role].T if "weight" in tiny.roles[role] else p[role]
    hidden = inputs.astype(np.float64) @ p["hidden/kernel"] + p["hidden/bias"].ravel()
    std = np.sqrt(p["norm/var"].ravel() + 1e-5)
    norm = (hidden - p["norm/mean"].ravel()) / std * p["norm/scale"].ravel()
    norm = norm + p["norm/offset"].ravel()
    head = np.maximum(norm, 0) @ p["head/kernel"] + p["head/bias"].ravel()
    return dict(zip(tiny.layers, (hidden, norm, head), strict=True))


def _with_random_statistics(params: Any, seed: int) -> Any:
    """Every leaf moved a little, variances kept positive."""
    rng = np.random.default_rng(seed)

    def move(leaf: Any) -> Any:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        moved = np.asarray(leaf) + (0.3 * rng.random(leaf.shape)).astype(leaf.dtype)
        return jax.device_put(moved)  # by jax.numpy it would be a program for each shape

    return jax.tree.map(move, params)


class _LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x: Any, train: bool = True) -> Any:
        x = nn.Dense(WIDTH, name="hidden")(x)
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        x = nn.Dropout(0.5, deterministic=not train)(nn.relu(x))
        return nn.Dense(CLASSES, name="head")(x)


_initial = jax.jit(functools.partial(_LinenNet().init, train=False))


def _linen(seed: int) -> Tiny:
    model = _LinenNet()
    variables = _initial(jax.random.key(seed), np.ones((1, INPUTS), np.float32))
    variables = _with_random_statistics(variables, seed)
    apply_fn, params = linen_adapter.adapt(model, variables, train=False)
    roles = {
        "hidden/kernel": "params/hidden/kernel",
        "hidden/bias": "params/hidden/bias",
        "norm/scale": "params/norm/scale",
        "norm/offset": "params/norm/bias",
        "norm/mean": "batch_stats/norm/mean",
        "norm/var": "batch_stats/norm/var",
        "head/kernel": "params/head/kernel",
        "head/bias": "params/head/bias",
    }
    features = functools.partial(linen_adapter.features, model, train=False)
    return Tiny(apply_fn, params, features, ("hidden", "norm", "head"), roles)


class _NnxNet(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.hidden = nnx.Linear(INPUTS, WIDTH, rngs=rngs)
        self.norm = nnx.BatchNorm(WIDTH, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.head(self.drop(nnx.relu(self.norm(self.hidden(x)))))


def _nnx(seed: int) -> Tiny:
    model = _NnxNet(nnx.Rngs(seed))
    apply_fn, params = nnx_adapter.adapt(model)
    roles = {
        "hidden/kernel": "params/hidden/kernel",
        "hidden/bias": "params/hidden/bias",
        "norm/scale": "params/norm/scale",
        "norm/offset": "params/norm/bias",
        "norm/mean": "state/norm/mean",
        "norm/var": "state/norm/var",
        "head/kernel": "params/head/kernel",
        "head/bias": "params/head/bias",
    }
    features = functools.partial(nnx_adapter.features, model)
    params = _with_random_statistics(params, seed)
    return Tiny(apply_fn, params, features, ("hidden", "norm", "head"), roles)


class _EquinoxNet(eqx.Module):
    hidden: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    drop: eqx.nn.Dropout
    head: eqx.nn.Linear

    def __init__(self, key: Any) -> None:
        keys = jax.random.split(key)
        self.hidden = eqx.nn.Linear(INPUTS, WIDTH, key=keys[0])
        self.norm = eqx.nn.BatchNorm(WIDTH, axis_name="batch", mode="ema")
        self.drop = eqx.nn.Dropout(0.5)
        self.head = eqx.nn.Linear(WIDTH, CLASSES, key=keys[1])

    def __call__(self, x: Any, state: Any) -> Any:
        x, state = self.norm(self.hidden(x), state)
        return self.head(self.drop(jax.nn.relu(x))), state


def _equinox(seed: int) -> Tiny:
    model, state = eqx.nn.make_with_state(_EquinoxNet)(jax.random.key(seed))
    apply_fn, params = equinox_adapter.adapt(model, state)
    params = _with_random_statistics(params, seed)
    features = functools.partial(equinox_adapter.features, model, state=state)
    roles = {
        "hidden/kernel": "params/hidden/weight",
        "hidden/bias": "params/hidden/bias",
        "norm/scale": "params/norm/weight",
        "norm/offset": "params/norm/bias",
        "norm/mean": "state/norm/ema_state_index_0",
        "norm/var": "state/norm/ema_state_index_1",
        "head/kernel": "params/head/weight",
        "head/bias": "params/head/bias",
    }
    return Tiny(apply_fn, params, features, ("hidden", "norm", "head"), roles)


def _haiku(seed: int) -> Tiny:
    def net(x: Any, is_training: bool) -> Any:
        x = hk.Linear(WIDTH, name="hidden")(x)
        x = hk.BatchNorm(True, True, 0.9, name="norm")(x, is_training)
        x = jax.nn.relu(x)
        if is_training:
            x = jnp.where(jax.random.bernoulli(hk.next_rng_key(), 0.5, x.shape), 2 * x, 0)
        return hk.Linear(CLASSES, name="head")(x)

    transformed = hk.transform_with_state(net)
    init = transformed.init(jax.random.key(seed), jnp.ones((2, INPUTS)), True)
    apply_fn, params = haiku_adapter.adapt(transformed, *init, is_training=False)
    params = _with_random_statistics(params, seed)
    roles = {
        "hidden/kernel": "params/hidden/w",
        "hidden/bias": "params/hidden/b",
        "norm/scale": "params/norm/scale",
        "norm/offset": "params/norm/offset",
        "norm/mean": "state/norm/mean_ema.average",
        "norm/var": "state/norm/var_ema.average",
        "head/kernel": "params/head/w",
        "head/bias": "params/head/b",
    }
    features = functools.partial(haiku_adapter.features, transformed, is_training=False)
    return Tiny(apply_fn, params, features, ("hidden", "norm", "head"), roles)


_MAKERS = {"linen": _linen, "nnx": _nnx, "equinox": _equinox, "haiku": _haiku}
