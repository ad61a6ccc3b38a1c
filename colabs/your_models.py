# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Two models of yours
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/)
# The badge leads to Colab, where *File > Upload notebook* opens this file.
#
# Ten lines for each of Flax Linen, Flax NNX, Equinox and Haiku: an adapter gives
# `(apply_fn, params)`, and every analysis takes these. Here each framework trains the same small
# net twice, from different random weights, and we ask three questions of the pair: is there a
# barrier between them, which modules differ most, and do their layers compute the same features?
# All of it takes some fifteen seconds.

# %% [markdown]
# ## Install
#
# `SOURCE` is where tlx comes from: the folder of a clone, or its address as pip reads it
# (`git+https://…`). Nothing is installed where tlx is there already.

# %%
import importlib.metadata
import subprocess
import sys

SOURCE = ".."
wanted = {name: name for name in ("equinox", "dm-haiku")}
wanted["tlx-transfer"] = f"tlx-transfer[demo] @ {SOURCE}" if "://" in SOURCE else f"{SOURCE}[demo]"
there = {each.name for each in importlib.metadata.distributions()}
missing = [source for name, source in wanted.items() if name not in there]
if missing:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *missing], check=True)

# %%
# %matplotlib inline
import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import nnx
from sklearn.datasets import load_digits

from tlx.adapters import equinox as equinox_adapter
from tlx.adapters import haiku as haiku_adapter
from tlx.adapters import linen as linen_adapter
from tlx.adapters import nnx as nnx_adapter
from tlx.analyses import features, landscape, parameters
from tlx.core import metrics, partition, streams

digits = load_digits()
IMAGES, LABELS = (digits.data / 16).astype(np.float32), digits.target
stream = streams.from_arrays(IMAGES[1200:], LABELS[1200:], batch_size=200)


def train(apply_fn, params, steps=200):
    """The parameters after some steps of Adam; any framework's, since they are a pytree."""
    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(params, state):
        def loss(params):
            logits = apply_fn(params, IMAGES[:1200])
            return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS[:1200]).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for _ in range(steps):
        params, state = step(params, state)
    return params


def compare(name, apply_fn, feature_fn, a, b):
    """Three answers about two models."""
    alphas = jnp.linspace(0, 1, 11)
    line = landscape.line(apply_fn, metrics.classification(), a, b, stream, alphas=alphas)
    barrier = landscape.barrier(line.alphas, line.results["loss"], kind="chord")
    apart = parameters.distances.by_module(a, b, partition.by_level(a, "layer"))
    cka = features.cka_matrix(feature_fn, a, feature_fn, b, stream)
    most = apart.modules[int(np.argmax(apart.relative))]
    same = np.diag(cka.values)
    print(f"{name}: barrier {barrier.height:.2f} nats, most apart in {most}, "
          f"CKA {', '.join(f'{x:.2f}' for x in same)} of {', '.join(cka.layers_x)}")  # fmt: skip


# %% [markdown]
# ## Flax Linen


# %%
class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(10, name="head")(nn.relu(nn.Dense(64, name="hidden")(x)))


model = Linen()
variables = [model.init(jax.random.key(seed), IMAGES[:1]) for seed in range(2)]
(apply_fn, a), (_, b) = (linen_adapter.adapt(model, v) for v in variables)
a, b = train(apply_fn, a), train(apply_fn, b)
compare("Linen", apply_fn, linen_adapter.features(model), a, b)

# %% [markdown]
# ## Flax NNX


# %%
class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.hidden, self.head = nnx.Linear(64, 64, rngs=rngs), nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.hidden(x)))


models = [Nnx(nnx.Rngs(seed)) for seed in range(2)]
(apply_fn, a), (_, b) = map(nnx_adapter.adapt, models)
a, b = train(apply_fn, a), train(apply_fn, b)
compare("NNX", apply_fn, nnx_adapter.features(models[0]), a, b)


# %% [markdown]
# ## Equinox
#
# Its modules are written for one example; the adapter maps them over the batch.


# %%
class Equinox(eqx.Module):
    hidden: eqx.nn.Linear
    head: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key)
        self.hidden = eqx.nn.Linear(64, 64, key=keys[0])
        self.head = eqx.nn.Linear(64, 10, key=keys[1])

    def __call__(self, x):
        return self.head(jax.nn.relu(self.hidden(x)))


models = [Equinox(jax.random.key(seed)) for seed in range(2)]
(apply_fn, a), (_, b) = map(equinox_adapter.adapt, models)
a, b = train(apply_fn, a), train(apply_fn, b)
compare("Equinox", apply_fn, equinox_adapter.features(models[0]), a, b)


# %% [markdown]
# ## Haiku


# %%
def net(x):
    return hk.Linear(10, name="head")(jax.nn.relu(hk.Linear(64, name="hidden")(x)))


transformed = hk.without_apply_rng(hk.transform(net))
init = [transformed.init(jax.random.key(seed), IMAGES[:1]) for seed in range(2)]
(apply_fn, a), (_, b) = (haiku_adapter.adapt(transformed, each) for each in init)
a, b = train(apply_fn, a), train(apply_fn, b)
compare("Haiku", apply_fn, haiku_adapter.features(transformed), a, b)

# %% [markdown]
# Models that take several arrays, or return several, need a word on either side:
#
#     linen_adapter.adapt(model, variables,
#                         call=lambda model, x: model(x["ids"], x["mask"]),
#                         output=lambda out: out["logits"])
#
# and batches come from any loader by `streams.from_batches(loader, inputs=("ids", "mask"),
# labels="label")`.
