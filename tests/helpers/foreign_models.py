"""Models as other projects write them, each with the glue that it needs: `GLUE` has its lines.

A config that is a plain dataclass, several inputs, several outputs, a random key as an option,
layers that return tuples, state beside the weights, a graph, an actor and critic, a posterior's
samples on one axis. Each has twelve examples of three classes, or real targets.
"""

import dataclasses
import inspect
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

from tests.helpers import tiny_models
from tlx.adapters import equinox as equinox_adapter
from tlx.adapters import haiku as haiku_adapter
from tlx.adapters import linen as linen_adapter
from tlx.adapters import nnx as nnx_adapter
from tlx.core import metrics, streams, tree

N, SIZE, CLASSES = 12, 8, 3


class Kind(NamedTuple):
    """A model of which two are compared."""

    apply_fn: Any
    params: tuple[Any, Any]
    features: Any
    inputs: Any
    loss: Any = metrics.softmax_cross_entropy
    labels: Any = None

    @property
    def stream(self) -> Any:
        return streams.from_arrays(self.inputs, self.labels, batch_size=SIZE)


@dataclasses.dataclass  # not frozen: it cannot be hashed
class TextConfig:
    vocabulary: int = 11
    width: int = 6


class Block(nn.Module):
    """A block of a transformer, as those that return what they attended to."""

    width: int

    @nn.compact
    def __call__(self, x: Any, mask: Any, deterministic: bool = True) -> Any:
        weights = jax.nn.softmax(jnp.where(mask[:, None, :] > 0, x @ x.swapaxes(1, 2), -1e9))
        y = nn.Dense(2 * self.width, name="up")(nn.LayerNorm(name="norm")(weights @ x))
        y = nn.Dropout(0.5, deterministic=deterministic)(nn.gelu(y))
        return x + nn.Dense(self.width, name="down")(y), weights


class Text(nn.Module):
    config: TextConfig

    @nn.compact
    def __call__(self, ids: Any, mask: Any, deterministic: bool = True) -> Any:
        x = nn.Embed(self.config.vocabulary, self.config.width, name="embed")(ids)
        for i in range(2):
            x, _ = Block(self.config.width, name=f"h_{i}")(x, mask, deterministic)
        pooled = (x * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        return {"logits": nn.Dense(CLASSES, name="head")(pooled), "hidden": x}


def _text() -> Kind:
    model = Text(TextConfig())
    inputs = {"ids": _ids(), "mask": np.ones((N, 5), np.float32)}
    inputs["mask"][:, 4:] = 0
    variables = [model.init(jax.random.key(i), **inputs) for i in range(2)]
    glue = {"call": lambda m, x: m(x["ids"], x["mask"]), "output": lambda out: out["logits"]}
    (apply_fn, a), (_, b) = (linen_adapter.adapt(model, v, **glue) for v in variables)
    return Kind(apply_fn, (a, b), linen_adapter.features(model, **glue), inputs, labels=_classes())


class Decoder(nnx.Module):
    """Its blocks return a cache and the residual stream."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.embed = nnx.Embed(11, 6, rngs=rngs)
        self.blocks = nnx.List([DecoderBlock(rngs) for _ in range(2)])
        self.head = nnx.Linear(6, CLASSES, rngs=rngs)

    def __call__(self, ids: Any) -> Any:
        x, caches = self.embed(ids), []
        for block in self.blocks:
            cache, x = block(x)
            caches.append(cache)
        return self.head(x.mean(1)), caches


class DecoderBlock(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.key, self.value = (nnx.Linear(6, 6, rngs=rngs) for _ in range(2))
        self.up, self.down = nnx.Linear(6, 12, rngs=rngs), nnx.Linear(12, 6, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        cache = {"k": self.key(x), "v": self.value(x), "end": jnp.zeros((), jnp.int32)}
        attended = jax.nn.softmax(x @ cache["k"].swapaxes(1, 2)) @ cache["v"]
        return cache, x + self.down(jax.nn.gelu(self.up(x + attended)))


def _decoder() -> Kind:
    models = [Decoder(nnx.Rngs(i)) for i in range(2)]
    glue = {"output": lambda out: out[0]}
    (apply_fn, a), (_, b) = (nnx_adapter.adapt(model, **glue) for model in models)
    return Kind(
        apply_fn, (a, b), nnx_adapter.features(models[0], **glue), _ids(), labels=_classes()
    )


class Autoencoder(nn.Module):
    """A variational one, which draws."""

    @nn.compact
    def __call__(self, x: Any, key: Any) -> Any:
        hidden = nn.relu(nn.Dense(8, name="encoder")(x))
        mean, log_var = nn.Dense(2, name="mean")(hidden), nn.Dense(2, name="log_var")(hidden)
        z = mean + jnp.exp(log_var / 2) * jax.random.normal(key, mean.shape)
        hidden = nn.relu(nn.Dense(8, name="decoder")(z))
        return nn.Dense(tiny_models.INPUTS, name="out")(hidden), mean, log_var


def elbo(outputs: Any, batch: Any) -> Any:
    x, mean, log_var = outputs
    apart = jnp.square(x - batch["inputs"]).sum(-1)
    return apart + (jnp.square(mean) + jnp.exp(log_var) - log_var - 1).sum(-1) / 2


def _autoencoder() -> Kind:
    model, key, inputs = Autoencoder(), jax.random.key(0), tiny_models.make_inputs(N)[0]
    variables = [model.init(jax.random.key(i), inputs, key) for i in range(2)]
    (apply_fn, a), (_, b) = (linen_adapter.adapt(model, v, key=key) for v in variables)
    return Kind(apply_fn, (a, b), linen_adapter.features(model, key=key), inputs, elbo)


class ActorCritic(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        body = nn.tanh(nn.Dense(8, name="body")(x))
        return nn.Dense(CLASSES, name="actor")(body), nn.Dense(1, name="critic")(body)


def _actor_critic() -> Kind:
    model, (inputs, labels) = ActorCritic(), tiny_models.make_inputs(N)
    variables = [model.init(jax.random.key(i), inputs) for i in range(2)]
    (apply_fn, a), (_, b) = (
        linen_adapter.adapt(model, v, output=lambda out: out[0]) for v in variables
    )
    return Kind(apply_fn, (a, b), linen_adapter.features(model), inputs, labels=labels)


class Residual(eqx.Module):
    """A residual block with batch normalisation, in Equinox."""

    first: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    second: eqx.nn.Linear

    def __init__(self, key: Any) -> None:
        keys = jax.random.split(key)
        self.first, self.second = (eqx.nn.Linear(6, 6, key=k) for k in keys)
        self.norm = eqx.nn.BatchNorm(6, axis_name="batch", mode="batch")

    def __call__(self, x: Any, state: Any) -> Any:
        y, state = self.norm(self.first(x), state)
        return x + self.second(jax.nn.relu(y)), state


class Stateful(eqx.Module):
    stem: eqx.nn.Linear
    blocks: list[Residual]
    head: eqx.nn.Linear

    def __init__(self, key: Any) -> None:
        keys = jax.random.split(key, 4)
        self.stem = eqx.nn.Linear(tiny_models.INPUTS, 6, key=keys[0])
        self.blocks = [Residual(k) for k in keys[1:3]]
        self.head = eqx.nn.Linear(6, CLASSES, key=keys[3])

    def __call__(self, x: Any, state: Any) -> Any:
        x = self.stem(x)
        for block in self.blocks:
            x, state = block(x, state)
        return self.head(x), state


def _stateful() -> Kind:
    models = [eqx.nn.make_with_state(Stateful)(jax.random.key(i)) for i in range(2)]
    inputs, labels = tiny_models.make_inputs(N)
    models = [(model, _seen(model, state, inputs)) for model, state in models]
    (apply_fn, a), (_, b) = (equinox_adapter.adapt(*model) for model in models)
    features = equinox_adapter.features(models[0][0], state=models[0][1])
    return Kind(apply_fn, (a, b), features, inputs, labels=labels)


def _seen(model: Any, state: Any, inputs: Any) -> Any:
    """The state after a batch."""
    mapped = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
    return mapped(inputs, state)[1]


def _haiku() -> Kind:
    def net(x: Any, is_training: bool) -> Any:
        x = jax.nn.relu(hk.Linear(8, name="stem")(x))
        y = hk.BatchNorm(True, True, 0.9, name="block_0_norm")(x, is_training)
        x = x + hk.Linear(8, name="block_0_dense")(jax.nn.relu(y))
        return hk.Linear(CLASSES, name="head")(x)

    transformed = hk.transform_with_state(net)
    inputs, labels = tiny_models.make_inputs(N)
    init = [transformed.init(jax.random.key(i), inputs, True) for i in range(2)]
    (apply_fn, a), (_, b) = (
        haiku_adapter.adapt(transformed, *each, is_training=False) for each in init
    )
    features = haiku_adapter.features(transformed, is_training=False)
    return Kind(apply_fn, (a, b), features, inputs, labels=labels)


class Graph(NamedTuple):
    """A graph, or several on a leading axis, as jraph's GraphsTuple has them."""

    nodes: Any
    edges: Any
    senders: Any
    receivers: Any
    n_node: Any


class GraphNet(nn.Module):
    """Of one graph."""

    @nn.compact
    def __call__(self, graph: Graph) -> Any:
        nodes = nn.relu(nn.Dense(6, name="embed")(graph.nodes))
        sent = nn.Dense(6, name="message")(nodes)[graph.senders] * graph.edges
        nodes += jax.ops.segment_sum(sent, graph.receivers, num_segments=4)
        return graph._replace(nodes=nn.Dense(CLASSES, name="head")(nn.relu(nodes)).sum(0))


def _graphs() -> Kind:
    rng = np.random.default_rng(0)
    ends = rng.integers(0, 4, (2, N, 7)).astype(np.int32)
    nodes, edges = (rng.standard_normal(s).astype(np.float32) for s in ((N, 4, 5), (N, 7, 1)))
    graphs = Graph(nodes, edges, *ends, np.full(N, 4, np.int32))
    model, one = GraphNet(), jax.tree.map(operator.itemgetter(0), graphs)
    variables = [model.init(jax.random.key(i), one) for i in range(2)]
    axes = {"params": None, "intermediates": 0}
    each = nn.vmap(GraphNet.__call__, variable_axes=axes, split_rngs={"params": False})
    glue = {"call": each, "output": lambda out: out.nodes}
    (apply_fn, a), (_, b) = (linen_adapter.adapt(model, v, **glue) for v in variables)
    return Kind(apply_fn, (a, b), linen_adapter.features(model, **glue), graphs, labels=_classes())


class Field(nn.Module):
    """A network of coordinates, as those that solve differential equations."""

    @nn.compact
    def __call__(self, x: Any, t: Any) -> Any:
        hidden = nn.tanh(nn.Dense(8, name="first")(jnp.stack([x, t], -1)))
        return nn.Dense(1, name="last")(nn.tanh(nn.Dense(8, name="second")(hidden)))[..., 0]


def squared(outputs: Any, batch: Any) -> Any:
    return jnp.square(outputs - batch["labels"])


def _field() -> Kind:
    model, x = Field(), np.linspace(0, 1, N, dtype=np.float32)
    inputs = {"x": x, "t": x[::-1].copy()}
    variables = [model.init(jax.random.key(i), **inputs) for i in range(2)]
    glue = {"call": lambda m, x: m(**x)}
    (apply_fn, a), (_, b) = (linen_adapter.adapt(model, v, **glue) for v in variables)
    features = linen_adapter.features(model, **glue)
    return Kind(apply_fn, (a, b), features, inputs, squared, np.sin(7 * x))


class Net(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(CLASSES, name="head")(nn.relu(nn.Dense(8, name="hidden")(x)))


def _samples() -> Kind:
    """Weights as a sampler or an ensemble keeps them: the first axis is that of the samples."""
    model, (inputs, labels) = Net(), tiny_models.make_inputs(N)
    keys = jax.random.split(jax.random.key(0), 3)
    samples = jax.jit(jax.vmap(model.init, in_axes=(0, None)))(keys, inputs)
    a, b, _ = tree.unstack(samples)
    (apply_fn, a), (_, b) = (linen_adapter.adapt(model, v) for v in (a, b))
    return Kind(apply_fn, (a, b), linen_adapter.features(model), inputs, labels=labels)


def _ids() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 11, (N, 5)).astype(np.int32)


def _classes() -> np.ndarray:
    return np.random.default_rng(2).integers(0, CLASSES, N)


KINDS: dict[str, Callable[[], Kind]] = {
    "text": _text,
    "decoder": _decoder,
    "autoencoder": _autoencoder,
    "actor_critic": _actor_critic,
    "stateful": _stateful,
    "haiku": _haiku,
    "graphs": _graphs,
    "field": _field,
    "samples": _samples,
}

GLUE = {
    name: sum(inspect.getsource(kind).count(word) for word in ("lambda", "nn.vmap", "unstack"))
    for name, kind in KINDS.items()
}
"""What each needs beside its adapter: how it is called, which output counts, one of the samples."""
